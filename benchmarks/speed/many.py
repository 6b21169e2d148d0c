"""Many seeds at once against one after the other: ``python -m benchmarks.speed.many``; one torch thread.

Both ways train the same agents for the same number of steps in turn, so that what else the machine does hits both; the
time is the process's CPU time, and the median of the rounds is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro

from agents.algorithms.presets import PRESETS, preset
from agents.core.ipm_agent import IPMAgent
from agents.core.many import ManySeeds
from agents.zoo import agent_class


@dataclass(frozen=True)
class ManyConfig:
    """What is timed."""

    algo: str = "sft_pg"
    """Name of a preset that `ManySeeds` takes."""
    seeds: int = 8
    """S, seeds that are trained."""
    num_envs: tuple[int, ...] = (16, 64, 128)
    """B, trajectories per rollout of each seed."""
    num_steps: int = 10
    """K, denoising steps."""
    iterations: int = 2
    """Iterations in one timing."""
    rounds: int = 5
    """Timings of each way."""


def timed(num_envs: int, config: ManyConfig) -> dict[str, float]:
    """CPU seconds of one iteration of all seeds, one after the other and at once, after a first round of each."""
    settings, env_kwargs = preset(config.algo), {"num_steps": config.num_steps}
    kind = agent_class(PRESETS[config.algo].agent)

    def made() -> list[IPMAgent]:
        seeds = range(config.seeds)
        return [kind(config=settings, num_envs=num_envs, env_kwargs=env_kwargs, seed=seed) for seed in seeds]

    single, many = made(), ManySeeds(made())
    budget = config.iterations * single[0].iteration_timesteps

    def one_after_the_other() -> None:
        for agent in single:
            agent.learn(budget)

    def at_once() -> None:
        many.learn(budget)

    ways: dict[str, Callable[[], None]] = {"one_after_the_other": one_after_the_other, "at_once": at_once}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(config.rounds + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if number > 0:
                seconds[name].append((time.process_time() - began) / config.iterations)
    return {"num_envs": num_envs, **{name: statistics.median(values) for name, values in seconds.items()}}


def table(results: list[dict[str, float]], seeds: int) -> str:
    """The figures as Markdown."""
    lines = [f"| num_envs | {seeds} seeds one after the other | at once | ratio |", "|---|---|---|---|"]
    for found in results:
        one, all_ = found["one_after_the_other"], found["at_once"]
        lines.append(f"| {found['num_envs']} | {1e3 * one:,.0f} ms | {1e3 * all_:,.0f} ms | {one / all_:.2f} |")
    return "\n".join(lines)


def main(config: ManyConfig) -> None:
    """Time every size and print the table."""
    torch.set_num_threads(1)
    print(table([timed(num_envs, config) for num_envs in config.num_envs], config.seeds))


if __name__ == "__main__":
    main(tyro.cli(ManyConfig))
