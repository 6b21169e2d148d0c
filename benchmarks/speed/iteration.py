"""One iteration of each of our agents against its matrix products alone, and what its time goes to.

An iteration cannot take less time than its matrix products. Every one of them is recorded in one iteration, with shapes
and strides, and replayed bare on random numbers; iterations and replays are timed in turn. A replay uses one set of
operands for all products of one shape, which then lie in the cache: the limit is a little lower than can be reached.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

from agents.algorithms.presets import AGENTS
from agents.core.ipm_agent import IPMAgent
from agents.core.task import Task
from agents.zoo import find

PARTS = {
    "rollout": "rollout",
    "update_critic": "critic",
    "teach": "value",  # but for the critic's update, which is inside it
    "advantages": "policy step",
    "update_policy": "policy step",
    "after_step": "policy step",
}
"""The joints of an agent that are timed, and the part that each belongs to."""
REST, OUTSIDE = "rest", "outside"
SHARES = (*dict.fromkeys(PARTS.values()), REST)
"""What an iteration's time is divided into."""


class Products(TorchDispatchMode):
    """Records every matrix product and convolution that is computed inside: with its operands' shapes and strides.

    ``flops``: their floating-point operations, a multiplication and an addition counted as two.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0
        self.calls: list[Callable[[], Any]] = []
        self._operands: dict[Any, Tensor] = {}
        self._draws = torch.Generator().manual_seed(0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as usual, and take note of ``func`` if torch counts its operations."""
        out = func(*args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=out)
            given, named = tree_map(self._like, args), tree_map(self._like, kwargs or {})
            self.calls.append(lambda: func(*given, **named))
        return out

    def _like(self, value: Any) -> Any:
        """Random numbers with the shape (any) and strides of a tensor, the same ones each time; others as they are."""
        if not isinstance(value, Tensor):
            return value
        layout = (tuple(value.shape), value.stride(), value.dtype)
        if layout not in self._operands:
            size = 1 + sum((n - 1) * step for n, step in zip(value.shape, value.stride(), strict=True) if n > 0)
            numbers = torch.rand(size, generator=self._draws, dtype=value.dtype).to(value.device)
            self._operands[layout] = numbers.as_strided(value.shape, value.stride())
        return self._operands[layout]

    @torch.no_grad()
    def replay(self) -> None:
        """The recorded products again and nothing else, in their order."""
        for call in self.calls:
            call()


class Clock:
    """CPU seconds of this process, by part; what is spent inside a part that lies in another counts for it alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._part, self._since = OUTSIDE, time.process_time()

    @contextmanager
    def inside(self, part: str) -> Iterator[None]:
        """Count what is spent inside for ``part``."""
        outer = self._turn_to(part)
        try:
            yield
        finally:
            self._turn_to(outer)

    def _turn_to(self, part: str) -> str:
        now, before = time.process_time(), self._part
        self.seconds[before] += now - self._since
        self._part, self._since = part, now
        return before

    def watch(self, agent: IPMAgent) -> None:
        """Time the joints of ``agent`` from now on."""
        for name, part in PARTS.items():
            setattr(agent, name, self._timed(getattr(agent, name), part))

    def _timed(self, joint: Callable[..., Any], part: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:
            with self.inside(part):
                return joint(*arguments, **keywords)

        return timed


class Contestant:
    """An agent that has begun, its products and its times."""

    def __init__(self, name: str, agent: IPMAgent) -> None:
        """``agent``: named ``name``; it is trained for two iterations, the second of which is recorded."""
        self.name, self.agent, self.products, self.clock = name, agent, Products(), Clock()
        agent.learn(agent.iteration_timesteps)
        with self.products:
            agent.iterate()
        self.products.replay()
        self.clock.watch(agent)
        self.iterations: list[float] = []
        self.replays: list[float] = []

    def time_once(self) -> None:
        """Time one iteration and one replay, in CPU seconds."""
        started = time.process_time()
        with self.clock.inside(REST):
            self.agent.iterate()
        between = time.process_time()
        self.products.replay()
        self.iterations.append(between - started)
        self.replays.append(time.process_time() - between)

    def result(self) -> dict[str, Any]:
        """Medians over all that was timed; ``over_limit`` of the ratios of neighbours."""
        agent, middle, alone = self.agent, statistics.median(self.iterations), statistics.median(self.replays)
        whole = sum(self.clock.seconds[part] for part in SHARES)
        return {
            "agent": self.name,
            "trajectories_per_cpu_second": agent.iteration_timesteps / agent.envs.table.num_steps / middle,
            "iteration_cpu_seconds": middle,
            "flops": self.products.flops,
            "flops_per_cpu_second_alone": self.products.flops / alone,
            "limit_cpu_seconds": alone,
            "over_limit": statistics.median(i / r for i, r in zip(self.iterations, self.replays, strict=True)),
            "shares": {part: self.clock.seconds[part] / whole for part in SHARES},
        }


def time_iterations(names: tuple[str, ...], num_envs: int, repeats: int) -> list[dict[str, Any]]:
    """`Contestant.result` of the agents called ``names`` on the default task, timed in turn ``repeats`` times."""
    contestants = [Contestant(name, made(name, num_envs)) for name in names]
    for _ in range(repeats):
        for contestant in contestants:
            contestant.time_once()
    return [contestant.result() for contestant in contestants]


def made(name: str, num_envs: int) -> IPMAgent:
    """The agent called ``name`` of `AGENTS` with its defaults, on the default task."""
    agent = find(name).make(Task(num_envs=num_envs), seed=0)
    assert isinstance(agent, IPMAgent)
    return agent


def lines(results: list[dict[str, Any]], official: float | None) -> list[str]:
    """The figures as Markdown; ``official``: trajectories per CPU second of the official loop, None if unknown."""
    heads = ["agent", "trajectories per CPU second", "CPU ms", "GFLOP", "limit, CPU ms", "over limit", *SHARES]
    heads += ["over official"] if official is not None else []
    found = ["", "One iteration, medians of CPU time:", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for r in results:
        cells = [r["agent"], f"{r['trajectories_per_cpu_second']:,.0f}", f"{1e3 * r['iteration_cpu_seconds']:.1f}"]
        cells += [f"{r['flops'] / 1e9:.2f}", f"{1e3 * r['limit_cpu_seconds']:.1f}", f"{r['over_limit']:.2f}"]
        cells += [f"{r['shares'][part]:.0%}" for part in SHARES]
        cells += [f"{r['trajectories_per_cpu_second'] / official:.2f}"] if official is not None else []
        found.append(f"| {' | '.join(cells)} |")
    return [*found, "", NOTE]


NOTE = """GFLOP: floating-point operations of all matrix products in the iteration. Limit: the time of the same products
alone, replayed in turn with iterations; over limit: the iteration's time over it. The shares are of the iteration."""
OWN = tuple(AGENTS)
"""Every own agent."""
