"""Finished samples that the critic has not been trained on: small environments collect them until they fill a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CRITIC_BATCH = 128
"""The number of finished samples that one critic update is made for; fewer are collected first."""


def num_updates(num_samples: int) -> int:
    """Critic updates for so many finished samples: about one for each `CRITIC_BATCH` of them, at least one.

    So the number of updates for all samples together does not depend on how many finish at once.
    """
    return max(1, round(num_samples / CRITIC_BATCH))


class UnseenSamples:
    """A list of finished samples, given away as one batch as soon as there are `CRITIC_BATCH` of them.

    A sample is kept as its last n states: n = 1 is x[K] alone, n = K + 1 the whole trajectory x[0] ... x[K], for a
    critic that asks for it (`Critic.wants_trajectory`).
    """

    def __init__(self) -> None:
        """No samples."""
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        """How many samples wait."""
        return sum(part.shape[1] for part in self._parts)

    def add(self, states: Tensor) -> None:
        """Append M samples: their states (n, M, *shape), with one n and one shape in all calls."""
        assert states.ndim >= 3, states.shape
        assert not self._parts or _without_count(self._parts[0]) == _without_count(states), states.shape
        self._parts.append(states)

    def take_batch(self) -> Tensor | None:
        """All samples (n, M, *shape), M >= `CRITIC_BATCH`, in the order they came; None, and they stay, if too few."""
        if len(self) < CRITIC_BATCH:
            return None
        parts, self._parts = self._parts, []
        return torch.cat(parts, dim=1)

    def clear(self) -> None:
        """Forget all samples."""
        self._parts = []

    def state(self) -> list[Tensor]:
        """Copies of what was added and not yet taken, each (n, M, *shape)."""
        return [part.clone() for part in self._parts]

    def load(self, state: Sequence[Tensor], device: torch.device, shape: tuple[int, ...]) -> None:
        """Go on with copies of what `state` returned, each (n, M, *shape), on ``device``; ValueError for others."""
        kinds = {_without_count(part) for part in state}
        if len(kinds) > 1 or any(kind[1:] != shape for kind in kinds):
            raise ValueError(
                f"The samples that wait for the critic have the shapes {[tuple(part.shape) for part in state]}, but "
                f"all must be (n, M, {', '.join(map(str, shape))}) with one n."
            )
        self._parts = [part.to(device, copy=True) for part in state]


def _without_count(states: Tensor) -> tuple[int, ...]:
    return states.shape[0], *states.shape[2:]
