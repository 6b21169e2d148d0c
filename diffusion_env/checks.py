"""Checks of what a user gives while an environment runs: actions, starting states, seeds, options of a reset, modes."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

START = "options['x']"
"""What errors call the starting states that a user gives."""


class NonFiniteActionError(ValueError):
    """An action held NaN or infinity, or was so large that the next state has no finite float32 value.

    The policy has most likely diverged. No other ValueError of an environment says so.
    """


def tensor_of(what: str, array: Any, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A copy of ``array`` (*shape) as a float32 tensor (*shape) on ``device``; ``what`` names it in errors.

    An array of any real type, or lists of numbers: whatever ``np.asarray(array, np.float32)`` converts.

    Raises TypeError for what holds no real numbers, ValueError unless it has that ``shape``.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
            array = _real_numbers(what, array, shape).astype(np.float32)
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}; received {array.shape}.")
    return torch.tensor(np.ascontiguousarray(array), device=device)


def _real_numbers(what: str, array: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    if isinstance(array, Tensor):
        raise TypeError(
            f"{what} must be a numpy array of shape {shape}; received a Tensor. Convert it with .numpy(force=True): "
            "tensors are for array_type='torch' of the vector environment."
        )
    try:
        numbers = np.asarray(array)
    except (ValueError, TypeError) as error:  # lists of unequal lengths, or objects that numpy cannot read
        raise ValueError(f"{what} must be numbers of shape {shape}; received {type(array).__name__}: {error}") from None
    if numbers.dtype.kind not in REAL_KINDS:
        received = f"an array of dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(f"{what} must be real numbers of shape {shape}; received {received}.")
    return numbers


REAL_KINDS = "fiub"
"""numpy's kinds of types that a float32 stands for: floats, integers and bool."""


def checked_options(options: dict[str, Any] | None, known: Sequence[str]) -> dict[str, Any]:
    """The options of a reset, {} for None; ValueError if any is not ``known``."""
    options = {} if options is None else options
    unknown = sorted(set(options) - set(known), key=str)
    if unknown:
        raise ValueError(
            f"reset() received the options {unknown}, but it knows {list(known)} only. Leave the others out."
        )
    return options


def check_finite_start(start: Tensor) -> None:
    """ValueError if a component of the starting states (n, *shape) is NaN or infinite."""
    if not bool(start.isfinite().all()):
        raise ValueError(
            f"{START} held NaN or infinity where an environment is to start; every component must be finite. Give "
            "states in network units, such as an observation's x."
        )


class StateCheck:
    """Notices states that are NaN or infinite, which no later step makes finite again.

    To read a number from an accelerator, the host must wait until the device has done all its work. So with
    ``deferred`` a `look` keeps the largest magnitude on the device, and `settle`, once an episode, reads it.
    """

    def __init__(self, deferred: bool) -> None:
        """``deferred``: whether to raise in `settle` (accelerators) and not in `look` (CPU)."""
        self._deferred = deferred
        self._largest: Tensor | None = None  # () magnitude, NaN if any is: not yet read

    def look(self, x: Tensor, cause: Callable[[], Exception]) -> None:
        """Take note of states of any shape; raise ``cause()`` if one is not finite, unless ``deferred``."""
        if self._deferred:
            largest = x.abs().max()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        # The sum is the fastest test, but finite states can overflow it: only then each one is looked at.
        elif not math.isfinite(x.sum().item()) and not math.isfinite(x.abs().max()):
            raise cause()

    def settle(self, cause: Callable[[], Exception]) -> None:
        """Raise ``cause()`` if a state since the last call was not finite and `look` did not raise."""
        largest, self._largest = self._largest, None
        if largest is not None and not math.isfinite(largest):
            raise cause()


def non_finite_action() -> NonFiniteActionError:
    """What is raised where an action is to blame for a state that is not finite."""
    return NonFiniteActionError(
        "An action held NaN or infinity, or was so large that the next state overflows float32; every component must "
        "be finite. The policy that produced it has most likely diverged: lower its learning rate or clip its gradient."
    )


def check_tensor(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError unless ``values`` have ``shape``, (num_envs, *shape); TypeError unless float32."""
    if values.shape != shape:
        raise ValueError(f"{what} must have shape {shape} (num_envs, *shape); received {tuple(values.shape)}.")
    if values.dtype != torch.float32:
        raise TypeError(f"{what} must be float32; received {values.dtype}. Convert it with .float().")


def checked_seed(seed: Any) -> int | None:
    """A seed as Python's int; TypeError unless it is None or an integer >= 0."""
    if seed is None:
        return None
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer) or seed < 0:
        raise TypeError(
            f"seed must be a non-negative int or None; received {seed!r}. The environments of a native vector share "
            "one generator, so there is no list of seeds."
        )
    return operator.index(seed)


def checked_autoreset_mode(mode: Any) -> AutoresetMode:
    """One of Gymnasium's three modes, given as itself or as its value; ValueError lists them."""
    try:
        return AutoresetMode(mode)
    except (ValueError, TypeError):
        allowed = [known.value for known in AutoresetMode]
        raise ValueError(
            f"Unknown autoreset_mode {mode!r}. Give a gymnasium.vector.AutoresetMode or one of {allowed}."
        ) from None


def check_limit(max_episode_steps: Any, num_steps: int) -> None:
    """ValueError where a time limit would end an episode before its K = ``num_steps`` steps."""
    if max_episode_steps is None:
        return
    whole = isinstance(max_episode_steps, int | np.integer) and not isinstance(max_episode_steps, bool)
    if not whole or (max_episode_steps != -1 and max_episode_steps < num_steps):
        raise ValueError(
            f"max_episode_steps = {max_episode_steps!r}, but every episode has num_steps = {num_steps} steps: one that "
            "is cut off has no sample and no reward. Leave it out, or give num_steps or more."
        )
