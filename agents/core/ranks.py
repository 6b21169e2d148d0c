"""Many processes, each with its own trajectories: what they must add up to act as one large batch.

A process is a *rank*, as in torch.distributed. All ranks hold the same weights and draw different noise. Everything
that is a mean over the batch asks `Ranks`; with one process, `ALONE`, every method gives back what it was given.

Not shared yet: the critic, its data and the checkpoint. Each rank would train a critic of its own, so
`agents.core.ipm_agent.IPMAgent` refuses more than one rank unless the critic is fixed (``train_critic=False``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Ranks:
    """``size`` processes of which this is number ``rank``, 0 ... size - 1; ValueError for other numbers.

    Every rank must call the same methods in the same order, with tensors of the same shapes: each call waits for all.
    """

    rank: int = 0
    size: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.size:
            raise ValueError(f"rank must be one of 0 ... size - 1; received rank {self.rank} and size {self.size}.")

    @classmethod
    def from_environment(cls) -> Ranks:
        """The ranks of torch.distributed where its process group is initialised, else one process."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def seed(self, base: int) -> int:
        """The seed of this rank's draws: ``base`` on rank 0, streams that share nothing with it on the others."""
        if self.rank == 0:
            return base
        return int(np.random.SeedSequence(base, spawn_key=(self.rank,)).generate_state(1)[0])

    def mean(self, values: Tensor) -> Tensor:
        """``values`` averaged over the ranks, entry by entry; any shape, kept. No gradient passes."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def std(self, values: Tensor) -> Tensor:
        """The standard deviation (population, 0-d) of the entries of ``values`` on all ranks together; any shape."""
        if self.size == 1:
            return values.std(correction=0)
        return self.mean((values - self.mean(values.mean())).square().mean()).sqrt()

    def share(self, log_total: Tensor) -> Tensor:
        """exp(``log_total``) (0-d) over its mean over the ranks: what weights that were normalised on one rank lack."""
        if self.size == 1:
            return torch.ones_like(log_total)
        totals = [torch.empty_like(log_total) for _ in range(self.size)]
        dist.all_gather(totals, log_total)
        return torch.stack(totals).softmax(0)[self.rank] * self.size

    def reduce_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace every gradient (any shape) by its mean over the ranks, so that equal weights stay equal."""
        if self.size == 1:
            return
        for gradient in (parameter.grad for parameter in parameters if parameter.grad is not None):
            dist.all_reduce(gradient)
            gradient /= self.size

    def agree(self, flag: bool) -> bool:
        """Whether ``flag`` is true on all ranks; all ranks get the same answer, so that they stop together."""
        if self.size == 1:
            return flag
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        votes = torch.tensor(int(flag), device=device)
        dist.all_reduce(votes, dist.ReduceOp.MIN)
        return bool(votes)


ALONE = Ranks()
"""One process."""
