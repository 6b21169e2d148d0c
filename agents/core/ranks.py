"""Many processes that act as one: torchrun starts them, `joined` brings them together, `Ranks` is what they add up.

A process is a *rank*, as in torch.distributed. All ranks hold the same weights and the same random streams; each keeps
its own part of what is drawn (`diffusion_env.shards.Shard`). Everything that is a mean over the batch asks `Ranks`;
with one process, `ALONE`, every method gives back what it was given, and torch.distributed is not used.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from diffusion_env.shards import Shard

PATIENCE = timedelta(seconds=50)
"""How long a rank waits in one exchange for a rank that does not answer. One that has ended is noticed at once."""
ARRIVAL = timedelta(minutes=10)
"""How long the first rank waits for the last one to start."""
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
FAILURE = 2**40
"""What a rank that cannot go on says instead of a number; larger than any other."""


class RankLost(ConnectionError):
    """Another rank has ended or does not answer, so this one cannot go on."""


class RankFailed(FloatingPointError):
    """Another rank met a number that is not finite, and has said so."""


@dataclass(frozen=True)
class Ranks(Shard):
    """``size`` processes of which this is number ``rank``, 0 ... size - 1; ValueError for other numbers.

    Every rank must call the same methods in the same order, with tensors of the same shapes: each call waits for all,
    and raises RankLost where one of them has ended or does not answer within `PATIENCE`.
    """

    @classmethod
    def from_environment(cls) -> Ranks:
        """The ranks of torch.distributed where its process group is initialised, else one process."""
        import torch.distributed as dist

        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def mean(self, values: Tensor) -> Tensor:
        """As `Shard.mean`, of ``values`` of any shape."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        self._reduce(total)
        return total / self.size

    def gather(self, part: Tensor, dim: int = 0) -> Tensor:
        """As `Shard.gather`, of the ``part`` (any shape) that `own` gives: the whole in its own order."""
        return part if self.size == 1 else torch.stack(self._parts(part), dim + 1).flatten(dim, dim + 1)

    def std(self, values: Tensor) -> Tensor:
        """The standard deviation (population, 0-d) of the entries of ``values`` on all ranks together; any shape."""
        if self.size == 1:
            return values.std(correction=0)
        return self.mean((values - self.mean(values.mean())).square().mean()).sqrt()

    def share(self, log_total: Tensor) -> Tensor:
        """exp(``log_total``) (0-d) over its mean over the ranks: what weights that were normalised on one rank lack."""
        if self.size == 1:
            return torch.ones_like(log_total)
        return torch.stack(self._parts(log_total)).softmax(0)[self.rank] * self.size

    def reduce_gradients(self, parameters: Iterable[Tensor]) -> None:
        """As `Shard.reduce_gradients`, of ``parameters`` of any shape, in one exchange."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._reduce(flat)
        flat /= self.size
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def agree(self, flag: bool) -> bool:
        """Whether ``flag`` is true on all ranks; all ranks get the same answer, so that they stop together."""
        return self.highest(int(not flag)) == 0

    def highest(self, value: int) -> int:
        """The largest ``value`` of any rank. RankFailed where another rank has called `fail` instead."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        found = torch.tensor(value)
        self._reduce(found, dist.ReduceOp.MAX)
        if int(found) == FAILURE > value:
            raise RankFailed("Another rank stopped with an error; see its message.")
        return int(found)

    def fail(self) -> None:
        """Have the others stop at the `agree` or `highest` that they wait in, before this rank raises its error."""
        self.highest(FAILURE)

    def digests(self, digest: bytes) -> list[bytes]:
        """The ``digest`` of every rank, all of one length."""
        parts = self._parts(torch.tensor(list(digest), dtype=torch.uint8)) if self.size > 1 else []
        return [bytes(part.tolist()) for part in parts] or [digest]

    def _parts(self, part: Tensor) -> list[Tensor]:
        import torch.distributed as dist

        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        self._exchange(dist.all_gather, parts, part.detach().contiguous())
        return parts

    def _reduce(self, *arguments: Any) -> None:
        import torch.distributed as dist

        self._exchange(dist.all_reduce, *arguments)

    def _exchange(self, collective: Callable[..., Any], *arguments: Any) -> None:
        try:
            collective(*arguments)
        except RuntimeError as error:
            raise RankLost(
                f"Rank {self.rank} of {self.size} cannot go on: another rank has ended, or has not answered for "
                f"{PATIENCE.seconds} seconds ({_first_line(error)}). Its own message says why, if it left one. The "
                "newest checkpoint is whole: start all ranks again, with --resume FOLDER to go on from it."
            ) from error


ALONE = Ranks()
"""One process."""


def started_size() -> int:
    """How many processes torchrun, or another launcher, says that it has started: WORLD_SIZE, 1 where it is not set."""
    return _number("WORLD_SIZE") if os.environ.get("WORLD_SIZE") else 1


@contextmanager
def joined(device: str = "cpu", arrival: timedelta = ARRIVAL) -> Iterator[Ranks]:
    """Inside, the processes that torchrun has started are one group, and the agents that are made train together.

    A launcher sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, and LOCAL_RANK for GPUs. Without WORLD_SIZE, or with
    1, there is one process and nothing is done. Tensors on the CPU go through gloo; where ``device`` is "cuda", rank
    LOCAL_RANK of a machine takes its GPU of that number, and tensors on GPUs go through nccl.

    Raises ValueError for variables that are missing or no numbers, and for a ``device`` that all ranks would share;
    RankLost where a rank has not come within ``arrival``.
    """
    if started_size() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    on_gpu = device.startswith("cuda")
    missing = [name for name in (*VARIABLES, *["LOCAL_RANK"] * on_gpu) if not os.environ.get(name)]
    if missing:
        raise ValueError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but {missing} are not set. Start the processes with torchrun, "
            "or have your launcher set these variables in each (see agents/README.md); for one process, unset "
            "WORLD_SIZE."
        )
    if on_gpu:
        _take_gpu(device)
    _join("cpu:gloo,cuda:nccl" if on_gpu else "gloo", arrival)
    try:
        yield Ranks.from_environment()
    finally:
        dist.destroy_process_group()


def _join(backend: str, arrival: timedelta) -> None:
    import torch.distributed as dist

    rank, size = _number("RANK"), Ranks(_number("RANK"), started_size()).size
    missing = list(range(size))
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=arrival))
        store.set(f"rank {rank} is here", "")
        store.wait([f"rank {one} is here" for one in missing], arrival)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    except RuntimeError as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RankLost(
            f"Rank {rank} of {size} waited {arrival.total_seconds():g} seconds at {place}, and not all ranks came "
            f"({_first_line(error)}). Look at their messages, and whether every machine reaches that address."
        ) from error


def _take_gpu(device: str) -> None:
    """Make the GPU of this rank the one that "cuda" means."""
    local, available = _number("LOCAL_RANK"), torch.cuda.device_count()
    if device != "cuda":
        raise ValueError(
            f"Each rank takes a GPU of its own: give the device 'cuda' and no number; received {device!r}."
        )
    if local >= available:
        raise ValueError(f"LOCAL_RANK is {local}, but this machine has {available} GPU(s). Start one rank for each.")
    torch.cuda.set_device(local)


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal() or (name == "WORLD_SIZE" and int(text) == 0):
        raise ValueError(f"{name} must be the number that torchrun sets; received {text!r}.")
    return int(text)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
