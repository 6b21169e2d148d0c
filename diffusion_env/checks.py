"""Checks of what a user gives while an environment runs: actions, starting states, options of a reset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

START = "options['x']"
"""What errors call the starting states that a user gives."""


def tensor_of(what: str, array: Any, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A copy of a numpy ``array`` (*shape) as a tensor (*shape) on ``device``; ``what`` names it in errors.

    Raises TypeError unless it is a float32 array, ValueError unless it has that ``shape``.
    """
    if not isinstance(array, np.ndarray) or array.dtype != np.float32:
        received = f"an array of dtype {array.dtype}" if isinstance(array, np.ndarray) else type(array).__name__
        raise TypeError(
            f"{what} must be a float32 numpy array of shape {shape}; received {received}. Convert it with "
            "np.asarray(..., np.float32); tensors are for array_type='torch' of the vector environment."
        )
    if array.shape != shape:
        raise ValueError(f"{what} must have shape {shape}; received {array.shape}.")
    return torch.tensor(np.ascontiguousarray(array), device=device)


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


class ActionCheck:
    """Refuses actions that are NaN or infinite.

    To read a number from an accelerator, the host must wait until the device has done all its work. So with
    ``deferred`` a `look` keeps the largest magnitude on the device, and `settle`, once an episode, reads it.
    """

    def __init__(self, deferred: bool) -> None:
        """``deferred``: whether to raise in `settle` (accelerators) and not in `look` (CPU)."""
        self._deferred = deferred
        self._largest: Tensor | None = None  # () magnitude, NaN if any is: not yet read

    def look(self, action: Tensor) -> None:
        """Take note of actions of any shape; ValueError if one is not finite and the check is not ``deferred``."""
        if self._deferred:
            largest = action.abs().max()
            self._largest = largest if self._largest is None else torch.maximum(self._largest, largest)
        # The sum is the fastest test, but finite actions can overflow it: only then each one is looked at.
        elif not math.isfinite(action.sum().item()):
            _check_finite(action.abs().max())

    def settle(self) -> None:
        """ValueError if an action since the last call was not finite and `look` did not raise."""
        largest, self._largest = self._largest, None
        if largest is not None:
            _check_finite(largest)


def _check_finite(largest_action: Tensor) -> None:
    if not math.isfinite(largest_action):
        raise ValueError(
            "An action held NaN or infinity; every component must be finite. The policy that produced it has most "
            "likely diverged: lower its learning rate or clip its gradient."
        )


def check_tensor(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """ValueError unless ``values`` have ``shape``, (num_envs, *shape); TypeError unless float32."""
    if values.shape != shape:
        raise ValueError(f"{what} must have shape {shape} (num_envs, *shape); received {tuple(values.shape)}.")
    if values.dtype != torch.float32:
        raise TypeError(f"{what} must be float32; received {values.dtype}. Convert it with .float().")
