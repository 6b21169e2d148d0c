"""What a user hands in while an environment runs: actions and options, refused with errors that teach."""

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
    """A copy of a numpy ``array`` as a tensor; TypeError or ValueError unless it is float32 of that ``shape``.

    ``what`` names it in the error, as in "The action".
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
    """ValueError if a starting state that will be used is not finite."""
    if not bool(start.isfinite().all()):
        raise ValueError(
            f"{START} held NaN or infinity where an environment is to start; every component must be finite. Give "
            "states in network units, such as an observation's x."
        )


def check_largest(largest_action: Tensor) -> None:
    """ValueError unless the largest magnitude of some actions, NaN where any is, is finite."""
    if not math.isfinite(largest_action):
        raise ValueError(
            "An action held NaN or infinity; every component must be finite. The policy that produced it has most "
            "likely diverged: lower its learning rate or clip its gradient."
        )


def check_tensor(what: str, values: Tensor, shape: tuple[int, ...]) -> None:
    """Raise, calling the tensor ``what``, unless it is float32 of ``shape`` (num_envs, *shape)."""
    if values.shape != shape:
        raise ValueError(f"{what} must have shape {shape} (num_envs, *shape); received {tuple(values.shape)}.")
    if values.dtype != torch.float32:
        raise TypeError(f"{what} must be float32; received {values.dtype}. Convert it with .float().")
