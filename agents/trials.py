"""One trial of tuning: train a named algorithm, own or stable-baselines3's, with every tuning seed, and measure it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from stable_baselines3.common.utils import LinearSchedule

from agents.callbacks import SeededSample
from agents.divergence import divergence
from agents.presets import PRESETS, preset
from agents.registry import agent_class
from agents.rollout import make_envs, required_denoiser
from agents.sb3.registry import SB3_ALGORITHMS, make_sb3
from agents.sb3.samplers import sb3_sampler
from diffusion_env import ENV_ID
from diffusion_env.config import EvaluationConfig
from diffusion_env.datasets import Dataset
from diffusion_env.evaluation import draw_fresh
from diffusion_env.metrics import sliced_wasserstein
from diffusion_env.sampling import sample

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
    """A row of `agents.presets` or of stable-baselines3's table."""
    env_kwargs: Mapping[str, Any]
    """Keywords of the environment."""
    total_timesteps: int
    """Environment steps of each training."""
    seeds: tuple[int, ...] = (1_000, 1_001)
    """Tuning seeds: each trial trains with every one."""
    num_envs: int = 128
    """B, trajectories per rollout."""
    num_samples: int = 10_000
    """Samples, and fresh points they are compared with, per seed."""
    device: str = "cpu"
    """Torch device."""
    threads: int = 1
    """Torch threads."""

    def __post_init__(self) -> None:
        if self.algo not in (*PRESETS, *SB3_ALGORITHMS):
            raise ValueError(f"Unknown algorithm {self.algo!r}. Choose one of {[*PRESETS, *SB3_ALGORITHMS]}.")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or not set(self.seeds) <= set(TUNING_SEEDS):
            raise ValueError(
                f"Tuning seeds must be different and lie in {TUNING_SEEDS.start} ... {TUNING_SEEDS.stop - 1}; received "
                f"{list(self.seeds)}. Seeds below are those of reported runs and tables, seeds above those of "
                "evaluation points, and what is tuned on them would be judged on what it was fitted to."
            )

    @property
    def num_steps(self) -> int:
        """K."""
        return int(self.env_kwargs.get("num_steps", 10))


def final_sw2(problem: Problem, changes: Mapping[str, Any]) -> list[float | None]:
    """SW2 (data units) after training the algorithm with ``changes``, per tuning seed; None where it diverged."""
    torch.set_num_threads(problem.threads)
    train = _train_agent if problem.algo in PRESETS else _train_sb3
    found: list[float | None] = []
    for i, seed in enumerate(problem.seeds):
        trained = train(problem, changes, seed)
        found.append(None if trained is None else _sw2(*trained, EVALUATION_SEED + i, problem.num_samples))
    return found


def untouched_sw2(problem: Problem) -> list[float]:
    """SW2 (data units) of the pretrained sampler on the points and noise of each tuning seed."""
    envs = make_envs(ENV_ID, problem.num_envs, problem.env_kwargs, torch.device(problem.device))
    data, table, network = envs.dataset, envs.table, required_denoiser(envs)

    def draw(n: int, seed: int) -> torch.Tensor:
        return data.to_data(sample(table, network, n, torch.Generator(data.device).manual_seed(seed)))

    return [_sw2(draw, data, EVALUATION_SEED + i, problem.num_samples) for i in range(len(problem.seeds))]


def trial_value(sw2: Sequence[float | None], untouched: Sequence[float]) -> float:
    """The objective: mean over seeds of SW2 over the untouched sampler's; 1 is untouched, less is better."""
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


def _train_agent(problem: Problem, changes: Mapping[str, Any], seed: int) -> tuple[SeededSample, Dataset] | None:
    config, agent = preset(problem.algo, **changes), agent_class(PRESETS[problem.algo].agent)
    run = agent(ENV_ID, config, problem.num_envs, problem.env_kwargs, seed, device=problem.device)
    diverged = divergence(lambda: run.learn(problem.total_timesteps, log_interval=NEVER), run.sample)
    return None if diverged else (run.sample, run.envs.dataset)


def _train_sb3(problem: Problem, changes: Mapping[str, Any], seed: int) -> tuple[SeededSample, Dataset] | None:
    keywords, world = sb3_keywords(changes), (problem.num_envs, problem.env_kwargs)
    model, env = make_sb3(problem.algo, *world, seed, problem.device, hyperparameters=keywords)
    draw = sb3_sampler(model)
    diverged = divergence(lambda: model.learn(problem.total_timesteps, log_interval=NEVER), draw)
    return None if diverged else (draw, env.dataset)
