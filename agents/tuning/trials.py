"""One trial of tuning: train a named algorithm, own or stable-baselines3's, with every tuning seed, and measure it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import torch
from stable_baselines3.common.utils import LinearSchedule

from agents.algorithms.presets import PRESETS, preset
from agents.core.rollout import make_envs, required_denoiser
from agents.runs.callbacks import SeededSample
from agents.runs.divergence import divergence
from agents.sb3.callbacks import CriticSchedule
from agents.sb3.registry import SB3_ALGORITHMS, make_sb3
from agents.sb3.samplers import sb3_sampler
from agents.zoo import agent_class
from diffusion_env import ENV_ID
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.evaluation.protocol import draw_fresh
from diffusion_env.samplers.walk import sample

TUNING_SEEDS = range(1_000, 10_000)
"""Seeds of training that may be tuned on. Reported runs and tables take those below, curves and evaluations those
above."""
EVALUATION_SEED = 30_000
"""The i-th tuning seed is measured on points and noise of EVALUATION_SEED + i, for every trial alike."""
DIVERGED = 10.0
"""The value of a sampler that is not finite any more, in multiples of the untouched one's SW2, and of any worse."""
NEVER = 10**9

Changes = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """What is tuned, on what, and how long a training is; the result of a study belongs to all of it."""

    algo: str
    """A row of `agents.algorithms.presets` or of stable-baselines3's table."""
    env_kwargs: Mapping[str, Any]
    """Keywords of the environment, but for dataset and num_steps."""
    total_timesteps: int
    """Environment steps of each training."""
    datasets: tuple[str, ...] = ("swiss_roll",)
    """Names or paths: each trial trains on every one."""
    num_steps: tuple[int, ...] = (10,)
    """K: each trial trains samplers of every one of these numbers of steps."""
    seeds: tuple[int, ...] = (1_000, 1_001)
    """Tuning seeds: each trial trains with every one, on every data set at every K."""
    held: Mapping[str, Any] = field(default_factory=dict)
    """Hyper-parameters that replace the row's and are not tuned."""
    num_envs: int = 128
    """B, trajectories per rollout."""
    num_samples: int = 10_000
    """Samples, and fresh points they are compared with, per training."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        if self.algo not in (*PRESETS, *SB3_ALGORITHMS):
            raise ValueError(f"Unknown algorithm {self.algo!r}. Choose one of {[*PRESETS, *SB3_ALGORITHMS]}.")
        if not self.datasets or len(set(self.datasets)) < len(self.datasets):
            raise ValueError(f"datasets must be different names; received {list(self.datasets)}.")
        if len(self.datasets) > 1 and self.env_kwargs.get("denoiser") is not None:
            raise ValueError(
                f"One denoiser cannot be pretrained on each of {list(self.datasets)}. Leave denoiser out to take the "
                "shipped ones, or give one data set."
            )
        if not self.num_steps or len(set(self.num_steps)) < len(self.num_steps) or min(self.num_steps) < 1:
            raise ValueError(f"num_steps must be different numbers >= 1; received {list(self.num_steps)}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not set(self.seeds) <= set(TUNING_SEEDS):
            raise ValueError(
                f"Tuning seeds must be different and lie in {TUNING_SEEDS.start} ... {TUNING_SEEDS.stop - 1}; received "
                f"{list(self.seeds)}. Seeds below are those of reported runs and tables, seeds above those of "
                "evaluation points, and what is tuned on them would be judged on what it was fitted to."
            )

    @property
    def worlds(self) -> list[dict[str, Any]]:
        """Keywords of the environment, per data set and K."""
        pairs = product(self.datasets, self.num_steps)
        return [{"dataset": dataset, **self.env_kwargs, "num_steps": k} for dataset, k in pairs]


def final_sw2(problem: Problem, changes: Mapping[str, Any]) -> list[float | None]:
    """SW2 (data units) after each training with ``changes``, all seeds of a world together; None if it diverged."""
    torch.set_num_threads(problem.threads)
    train = _train_agent if problem.algo in PRESETS else _train_sb3
    found: list[float | None] = []
    for world in problem.worlds:
        for i, seed in enumerate(problem.seeds):
            trained = train(problem, world, {**problem.held, **changes}, seed)
            found.append(None if trained is None else _sw2(*trained, EVALUATION_SEED + i, problem.num_samples))
    return found


def untouched_sw2(problem: Problem) -> list[float]:
    """SW2 (data units) of the pretrained sampler, in `final_sw2`'s order and on its points and noise."""
    return [sw2 for world in problem.worlds for sw2 in _untouched_sw2(problem, world)]


def _untouched_sw2(problem: Problem, world: Mapping[str, Any]) -> list[float]:
    envs = make_envs(ENV_ID, problem.num_envs, world, torch.device(problem.device))
    data, table, network = envs.dataset, envs.table, required_denoiser(envs)

    def draw(n: int, seed: int) -> torch.Tensor:
        return data.to_data(sample(table, network, n, torch.Generator(data.device).manual_seed(seed)))

    return [_sw2(draw, data, EVALUATION_SEED + i, problem.num_samples) for i in range(len(problem.seeds))]


def trial_value(sw2: Sequence[float | None], untouched: Sequence[float]) -> float:
    """The objective: mean over trainings of SW2 over the untouched sampler's; 1 is untouched, less is better."""
    ratios = [math.inf if new is None else new / old for new, old in zip(sw2, untouched, strict=True)]
    return sum(min(ratio, DIVERGED) for ratio in ratios) / len(ratios)


def sb3_keywords(changes: Mapping[str, Any]) -> Changes:
    """``changes`` of a trial as `make_sb3`'s hyperparameters: the step size falls linearly to zero, as in its rows."""
    rate = changes.get("learning_rate")
    return {**changes, **({} if rate is None else {"learning_rate": LinearSchedule(rate, 0.0, 1.0)})}


def _sw2(draw: SeededSample, data: Dataset, seed: int, num_samples: int) -> float:
    """On fresh points, noise and directions of ``seed``."""
    points = draw_fresh(data, EvaluationConfig(num_samples=num_samples, seeds=(seed,)), seed).reference
    directions = torch.Generator(points.device).manual_seed(seed)
    return sliced_wasserstein(draw(len(points), seed), points, directions)


def _train_agent(
    problem: Problem, world: Mapping[str, Any], changes: Mapping[str, Any], seed: int
) -> tuple[SeededSample, Dataset] | None:
    config, agent = preset(problem.algo, **changes), agent_class(PRESETS[problem.algo].agent)
    run = agent(ENV_ID, config, problem.num_envs, world, seed, device=problem.device)
    diverged = divergence(lambda: run.learn(problem.total_timesteps, log_interval=NEVER), run.sample)
    return None if diverged else (run.sample, run.envs.dataset)


def _train_sb3(
    problem: Problem, world: Mapping[str, Any], changes: Mapping[str, Any], seed: int
) -> tuple[SeededSample, Dataset] | None:
    keywords, size = sb3_keywords(changes), problem.num_envs
    model, env = make_sb3(problem.algo, size, world, seed, problem.device, hyperparameters=keywords)
    draw = sb3_sampler(model)
    watch = CriticSchedule()  # the agents' own, in both
    diverged = divergence(lambda: model.learn(problem.total_timesteps, watch, log_interval=NEVER), draw)
    return None if diverged else (draw, env.dataset)
