"""The grid of the toy table: what is run, how it is measured, and the published number beside it.

All on the swiss roll (data units: scikit-learn's roll / 20). Numbers are sliced W2 x 100 with 100 projections on
10,000 points; "paper" is Fan & Lee 2023, table 1, where it could be read, else the official code's own output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from agents.algorithms.presets import preset
from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.runs.callbacks import Measurement, SamplerEvaluation
from benchmarks.comparison.grid import FLOOR, UNTOUCHED, Entry, Grid
from benchmarks.comparison.tuned import FIRST_EDITION
from benchmarks.seeds import evaluation_seeds
from diffusion_env.config import EvaluationConfig, PretrainConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.pretraining import pretrain
from diffusion_env.evaluation.protocol import floor

NUM_ENVS = 128
PUBLISHED = "published"
"""The denoiser of tasks on the paper's schedule and in its units: a network of this project, pretrained there."""
SHORT_STEPS, FULL_STEPS = 4_000_000, 10_000_000
PAPER_STEPS = 4_800 * preset("sft_pg_paper").n_critic * NUM_ENVS * 10
"""4,800 policy steps, each after 5 rollouts of 128 trajectories of 10 steps: the official 300 epochs."""


def _calibrated(num_steps: int, sampler: str = "ddpm") -> Task:
    """The shipped network, started where alpha_bar is about 0."""
    return Task(dataset="swiss_roll", num_steps=num_steps, sampler=sampler, num_envs=NUM_ENVS)


def _published(num_steps: int, critic: str = "energy") -> Task:
    return Task(
        dataset="swiss_roll",
        num_steps=num_steps,
        sampler="published_toy",
        denoiser=PUBLISHED,
        critic=critic,
        num_envs=NUM_ENVS,
    )


EARLIER = FIRST_EDITION["sft_pg"]
"""`sft_pg_full` was measured with the settings that `sft_pg` had before `benchmarks.defaults`."""
ENTRIES = (
    Entry("floor", FLOOR, tasks=(_calibrated(10),), expected="0.69"),
    Entry("ddpm_10", UNTOUCHED, tasks=(_calibrated(10),)),
    Entry("ddim_10", UNTOUCHED, tasks=(_calibrated(10, "ddim"),)),
    Entry("ddpm_100", UNTOUCHED, tasks=(_calibrated(100),)),
    Entry("ddpm_1000", UNTOUCHED, tasks=(_calibrated(1000),)),
    Entry("sft_pg_short", "sft_pg", tasks=(_calibrated(10),), total_timesteps=SHORT_STEPS),
    Entry("sft_pg_full", "sft_pg", EARLIER, tasks=(_calibrated(10),), total_timesteps=FULL_STEPS),
    Entry("published_ddpm_10", UNTOUCHED, tasks=(_published(10),), expected="8.29"),
    Entry("published_ddpm_100", UNTOUCHED, tasks=(_published(100),), expected="2.36 / 2.33"),
    Entry("published_ddpm_1000", UNTOUCHED, tasks=(_published(1000),), expected="1.78"),
    Entry(
        "published_sft_pg_b",
        "sft_pg_paper",
        tasks=(_published(10, critic="baseline"),),
        total_timesteps=PAPER_STEPS,
        expected="0.64 / 0.85",
    ),
)
TOY = Grid(
    "toy",
    "The swiss-roll table",
    ENTRIES,
    tuple(dict.fromkeys(task for entry in ENTRIES for task in entry.tasks)),
    baseline="floor",
    references=(),
)


@dataclass(frozen=True)
class ToyProtocol:
    """Sizes of the measurements of a run of the toy table."""

    evaluations: int = 3
    """Evaluation sets per seed; no other seed and no training uses them. A critic is trained anew on the first."""
    num_samples: int = 10_000
    """Points of the published metric."""
    large_samples: int = 100_000
    """Points of the metric that still tells methods apart when the first has reached its floor."""
    large_steps: int = 100
    """The largest K at which that many samples are drawn."""
    refit_steps: int = 5_000
    """The most steps that a new energy critic is trained against the finished sampler."""
    curve_iterations: int = 50
    """Iterations from one point of the learning curve to the next."""
    curve_samples: int = 10_000
    """Samples, and reference points, of each of them."""

    def final(self, task: Task, seed: int) -> dict[str, EvaluationConfig]:
        """What is measured at the end of a run of ``seed``: on its own evaluation sets, the same for every entry."""
        seeds = evaluation_seeds("toy evaluation", seed, self.evaluations)
        small = EvaluationConfig(num_samples=self.num_samples, seeds=seeds, refit_steps=self.refit_steps)
        large = {"large_metrics": replace(small, num_samples=self.large_samples, refit_critic=None)}
        return {"metrics": small, **(large if task.num_steps <= self.large_steps else {})}

    def of_floor(self, dataset: Dataset, task: Task, seed: int) -> dict[str, Any]:
        """The metrics of fresh data on the same sets."""
        return {key: floor(dataset, config) for key, config in self.final(task, seed).items()}

    def of_untouched(self, untouched: Algorithm, seed: int) -> dict[str, Any]:
        """The metrics of the pretrained network, walked in the task's steps."""
        return {key: untouched.evaluate(config) for key, config in self.final(untouched.task, seed).items()}

    def of_trained(self, trained: Algorithm, seed: int) -> dict[str, Any]:
        """The metrics of the sampler at the end of its budget."""
        return self.of_untouched(trained, seed)

    def watch(self, algorithm: Algorithm, total_timesteps: int) -> SamplerEvaluation:
        """The callback that measures every `curve_iterations` iterations."""
        return SamplerEvaluation(self.curve_iterations * algorithm.iteration_timesteps, self.curve_samples)

    def curve(self, history: Sequence[Measurement]) -> list[dict[str, Any]]:
        """Everything that was measured."""
        return [point._asdict() for point in history]


def published_units(dataset: Dataset) -> Dataset:
    """The same points with network units = data units, as the paper's toy code feeds them."""
    return replace(
        dataset,
        name=f"{dataset.name}_published",
        train=dataset.to_data(dataset.train[:]),
        held_out=dataset.to_data(dataset.held_out[:]),
        center=torch.zeros_like(dataset.center),
        scale=1.0,
    )


def published_denoiser(num_levels: int, folder: Path, scale: float) -> EpsMLP:
    """A network on the published schedule with T = ``num_levels``, pretrained once and kept in ``folder``.

    ``scale`` multiplies the updates of its pretraining.
    """
    path = folder / f"published_{num_levels}.safetensors"
    if not path.exists():
        torch.set_num_threads(1)
        default = PretrainConfig(schedule="published_toy", num_levels=num_levels)
        config = replace(default, num_updates=max(1, int(scale * default.num_updates)))
        pretrain(published_units(load_dataset("swiss_roll")), config).save(path)
    return EpsMLP.load(path)


def pretrain_published(num_levels: int, folder: Path, scale: float) -> str:
    """Make sure that the published network with T = ``num_levels`` is there."""
    published_denoiser(num_levels, folder, scale)
    return f"network on the published schedule, T = {num_levels}"


def prepared(task: Task, folder: Path, scale: float) -> Task:
    """The task with the paper's units and network in the place of their name."""
    if task.denoiser != PUBLISHED:
        return task
    dataset = published_units(load_dataset(task.dataset))
    return replace(task, dataset=dataset, denoiser=published_denoiser(task.num_steps, folder, scale))
