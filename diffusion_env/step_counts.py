"""How many denoising steps each particle has done: counted on the host, so that no step has to ask the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

Mask = NDArray[np.bool_]
"""Which particles, (B,), on the host."""


class StepCounts:
    """k (B,): the steps that each of B particles has done, from 0 to K.

    A particle with k = K is done: it is finished, or it was never started. While all particles have done equally many
    steps, which is the usual case, k is kept as one int: a step table is then read at one step, without a gather.
    """

    def __init__(self, num_envs: int, num_steps: int, device: torch.device | str = "cpu") -> None:
        """B = ``num_envs`` particles of K = ``num_steps`` steps, none started; ``device`` is where `index` lies."""
        self.num_envs, self.num_steps, self.device = num_envs, num_steps, torch.device(device)
        self._k: int | NDArray[np.int64] = num_steps

    @property
    def k(self) -> NDArray[np.int64]:
        """The steps done by each particle, a fresh array (B,)."""
        return np.full(self.num_envs, self._k)

    @k.setter
    def k(self, k: NDArray[np.int64]) -> None:
        assert k.shape == (self.num_envs,), k.shape
        first = int(k[0])
        self._k = first if bool((k == first).all()) else k.copy()

    @property
    def common(self) -> int | None:
        """k as one int while all particles agree, else None."""
        return self._k if isinstance(self._k, int) else None

    @property
    def done(self) -> Mask:
        """Which particles are finished or were never started, a fresh array (B,)."""
        return np.full(self.num_envs, self._k == self.num_steps)

    def index(self) -> int | Tensor:
        """k as an index on the device: one int while all particles agree, else (B,) int64, not to be written to."""
        return self._k if isinstance(self._k, int) else host_to_device(self._k, self.device)

    def done_among(self, active: Mask | None = None) -> Mask | None:
        """Which of the ``active`` particles (B,), None for all, are done: (B,), or None if none is."""
        if isinstance(self._k, int) and self._k < self.num_steps:
            return None  # the usual case, without an array
        done = self.done if active is None else self.done & active
        return done if done.any() else None

    def check_running(self, active: Mask | None = None) -> None:
        """Raise ResetNeeded if any of the ``active`` particles (B,), None for all, is done."""
        stopped = self.done_among(active)
        if stopped is not None:
            raise ResetNeeded(
                f"{stopped.sum()} of {self.num_envs} samples are finished or were never started. Call reset() before "
                "step(); a vector environment also takes reset(options={'reset_mask': mask}) for some of them alone."
            )

    def advance(self, active: Mask | None = None) -> None:
        """Count one step of the ``active`` particles (B,), None for all. They must not be done; see `check_running`."""
        if active is None:
            self._k = self._k + 1
        else:
            self.k = self.k + active

    def restart(self, mask: Mask | None = None) -> None:
        """Set k = 0 for the particles in ``mask`` (B,), None for all."""
        if mask is None:
            self._k = 0
        else:
            self.k = np.where(mask, 0, self.k)


def host_to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """``array`` as a tensor of the same shape on ``device``; the host does not wait for the device's queued work.

    On the CPU the two share their memory.
    """
    return torch.from_numpy(array).to(device, non_blocking=True)
