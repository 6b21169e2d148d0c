"""Which part of every batch this process holds, where several processes work on one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shard:
    """Part ``rank`` of the ``size`` parts of every batch: its events rank, rank + size, rank + 2 size, and so on.

    Random numbers are drawn for the whole batch, the same on every process, and each keeps its own part. So the parts
    together are the batch that one process draws from the same seed, and the random streams of all processes are equal.
    To draw what is not kept costs little beside the networks, which see the part alone. With this order the first
    events of every part are together the first events of the batch, whatever it is cut into.

    This class is one process; `agents.core.ranks.Ranks` is many. Raises ValueError unless 0 <= rank < size.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must be one of 0 ... size - 1; received rank {self.rank} and size {self.size}.")

    def own(self, whole: Tensor, dim: int = 0) -> Tensor:
        """The part of ``whole`` (any shape) along ``dim``: n // size entries; the last n % size belong to nobody."""
        if self.size == 1:
            return whole
        n = whole.shape[dim]
        return whole.index_select(dim, torch.arange(self.rank, n - n % self.size, self.size, device=whole.device))

    def normal(
        self, shape: Sequence[int], generator: torch.Generator, device: torch.device | str = "cpu", dim: int = 0
    ) -> Tensor:
        """Standard normal numbers (*shape): this part, along ``dim``, of those drawn for the whole batch."""
        whole = [n * self.size if i == dim else n for i, n in enumerate(shape)]
        return self.own(torch.randn(whole, generator=generator, device=device), dim)

    def mean(self, values: Tensor) -> Tensor:
        """``values`` averaged over the processes, entry by entry; any shape, kept. No gradient passes."""
        return values

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """The whole, of which every process gives its ``part``; any shape, ``dim`` times ``size``."""
        return part

    def reduce_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient (any shape) by its mean over the processes, so that equal weights stay equal."""


WHOLE = Shard()
"""One process, which holds every batch alone."""
