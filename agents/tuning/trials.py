"""One trial of tuning: train an algorithm on every task with every tuning seed, and measure it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.runs.divergence import divergence
from agents.runs.untouched import Untouched
from agents.zoo import find
from diffusion_env.config import EvaluationConfig
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.evaluation.protocol import draw_fresh
from diffusion_env.seeds import stream

TUNING_SEEDS = range(1_000, 10_000)
"""Seeds of training that may be tuned on. Reported runs and tables take those below, curves and evaluations those
above."""
EVALUATION_SEED = 30_000
"""The i-th tuning seed is measured on points and noise of EVALUATION_SEED + i, for every trial alike."""
DIVERGED = 10.0
"""The value of a sampler that is not finite any more, in multiples of the untouched one's SW2, and of any worse."""
NEVER = 10**9


@dataclass(frozen=True)
class Problem:
    """What is tuned, on what, and how long a training is; the result of a study belongs to all of it."""

    algo: str
    """What `agents.zoo.find` knows by this name, or "module:Class"."""
    tasks: tuple[Task, ...]
    """Each trial trains on every one."""
    total_timesteps: int
    """Environment steps of each training."""
    seeds: tuple[int, ...] = (1_000, 1_001)
    """Tuning seeds: each trial trains with every one, on every task."""
    fixed: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Hyper-parameters that replace the preset's and are not tuned."""
    num_samples: int = 10_000
    """Samples, and fresh points they are compared with, per training."""
    threads: int = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"The tasks of a study must be different in their data sets or in K; received {names}.")
        datasets = sorted({task.dataset_name for task in self.tasks})
        if len(datasets) > 1 and any(task.denoiser is not None for task in self.tasks):
            raise ValueError(
                f"One denoiser cannot be pretrained on each of {datasets}. Leave denoiser out to take the shipped "
                "ones, or give one data set."
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not set(self.seeds) <= set(TUNING_SEEDS):
            raise ValueError(
                f"Tuning seeds must be different and lie in {TUNING_SEEDS.start} ... {TUNING_SEEDS.stop - 1}; received "
                f"{list(self.seeds)}. Seeds below are those of reported runs and tables, seeds above those of "
                "evaluation points, and what is tuned on them would be judged on what it was fitted to."
            )

    @property
    def largest(self) -> Task:
        """The task of most steps, whose space is searched."""
        return max(self.tasks, key=lambda task: task.num_steps)

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON; ValueError where a task holds an object."""
        own = ("algo", "total_timesteps", "seeds", "fixed", "num_samples", "threads")
        return {"tasks": [task.to_json() for task in self.tasks], **{name: getattr(self, name) for name in own}}


def final_sw2(problem: Problem, changes: Mapping[str, Any]) -> list[float | None]:
    """SW2 (data units) after each training with ``changes``, all seeds of a task together; None if it diverged."""
    torch.set_num_threads(problem.threads)
    entry = find(problem.algo)
    found: list[float | None] = []
    for task in problem.tasks:
        for i, seed in enumerate(problem.seeds):
            run = entry.make(task, seed, {**problem.fixed, **changes})
            diverged = divergence(lambda run=run: run.learn(problem.total_timesteps, log_interval=NEVER), run.sample)  # type: ignore[misc]
            found.append(None if diverged else _sw2(run, EVALUATION_SEED + i, problem.num_samples))
    return found


def untouched_sw2(problem: Problem) -> list[float]:
    """SW2 (data units) of the pretrained sampler, in `final_sw2`'s order and on its points and noise."""
    samplers = [Untouched(task) for task in problem.tasks]
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + len(problem.seeds))
    return [_sw2(sampler, seed, problem.num_samples) for sampler in samplers for seed in seeds]


def trial_value(sw2: Sequence[float | None], untouched: Sequence[float]) -> float:
    """The objective: mean over trainings of SW2 over the untouched sampler's; 1 is untouched, less is better."""
    ratios = [math.inf if new is None else new / old for new, old in zip(sw2, untouched, strict=True)]
    return sum(min(ratio, DIVERGED) for ratio in ratios) / len(ratios)


def _sw2(sampler: Algorithm, seed: int, num_samples: int) -> float:
    """On fresh points, noise and directions of ``seed``."""
    config = EvaluationConfig(num_samples=num_samples, seeds=(seed,))
    points = draw_fresh(sampler.dataset, config, seed).reference
    directions = stream(seed, "evaluation directions", points.device)
    return sliced_wasserstein(sampler.sample(len(points), seed), points, directions)
