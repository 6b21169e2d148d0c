"""What is measured of a run, and on which seeds: a `Measuring` is a grid's, and every result is stored with its sizes.

`Protocol` is the one of the comparison. A training seed has evaluation sets of its own, which all entries share and no
training or tuning touches. SW2, off support, mode coverage, recall and the AUC of both classifiers are measured on each
of them; what costs more (exact W1, MMD, the IPM of a critic that is trained anew) on the first. Raw numbers only: the
report makes the scores.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from typing import Protocol as Interface

import torch
from torch import Tensor

from agents.core.algorithm import Algorithm, seeded
from agents.core.task import Task
from agents.runs.callbacks import Measurement, SamplerEvaluation
from benchmarks.seeds import SEEDS, evaluation_seeds
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import Sample, draw_fresh, evaluate, floor
from diffusion_env.seeds import stream

FLOOR_SETS = 5
UNUSED = 2  # the least number of points of a metric whose value is not kept
ON_EVERY_SET = ("sw2", "off_support", "mode_coverage", "recall", "auc_boosting", "auc_neighbours")
ON_FIRST_SET = ("w1", "mmd", "refitted_ipm")


class Measuring(Interface):
    """A frozen dataclass of sizes that measures runs; what its methods return becomes part of a result."""

    def of_floor(self, dataset: Dataset, task: Task, seed: int) -> dict[str, Any]:
        """Of fresh data in the place of samples."""

    def of_untouched(self, untouched: Algorithm, seed: int) -> dict[str, Any]:
        """Of the pretrained sampler."""

    def of_trained(self, trained: Algorithm, seed: int) -> dict[str, Any]:
        """Of a sampler at the end of its training; FloatingPointError if a sample is not finite."""

    def watch(self, algorithm: Algorithm, total_timesteps: int) -> SamplerEvaluation:
        """The callback that measures the learning curve."""

    def curve(self, history: Sequence[Measurement]) -> list[dict[str, Any]]:
        """The points of the learning curve that a result keeps."""


@dataclass(frozen=True)
class Protocol:
    """Sizes of the measurements of a run of the comparison."""

    evaluations: int = 2
    """Evaluation sets per training seed, at the end of a run."""
    num_samples: int = 20_000
    """Samples, and reference points, per set."""
    w1_samples: int = 2_500
    """Points per side of the exact W1 and the MMD."""
    refit_steps: int = 5_000
    """The most steps that a new energy critic is trained against the finished sampler."""
    curve_points: int = 10
    """Measurements of SW2 during a run, but for the one at its start."""
    curve_samples: int = 5_000
    """Samples, and reference points, of each of them."""

    def final(self, seed: int) -> list[EvaluationConfig]:
        """Of the end of a run: the first set with everything, the others with what is cheap."""
        seeds = evaluation_seeds("comparison evaluation", seed, self.evaluations)
        first = EvaluationConfig(
            num_samples=self.num_samples,
            w1_samples=self.w1_samples,
            seeds=seeds[:1],
            refit_steps=self.refit_steps,
        )
        others = replace(first, w1_samples=UNUSED, seeds=seeds[1:] or seeds, refit_critic=None)
        return [first, others] if seeds[1:] else [first]

    def at_curve(self, sets: int = 1) -> EvaluationConfig:
        """Of the untouched sampler and of fresh data on the points of every learning curve."""
        seeds = tuple(SEEDS["curves"][:sets])
        return EvaluationConfig(self.curve_samples, w1_samples=UNUSED, seeds=seeds, refit_critic=None)

    def of_floor(self, dataset: Dataset, task: Task, seed: int) -> dict[str, Any]:
        """The outcome of a perfect sampler: fresh data on the same sets.

        On the points of the curves several pairs of sets are taken: one pair would leave a third of it to chance.
        """
        metrics = _merged([floor(dataset, config) for config in self.final(seed)])
        return {"metrics": metrics, "curve_sw2": floor(dataset, self.at_curve(FLOOR_SETS))["sw2_mean"]}

    def of_untouched(self, untouched: Algorithm, seed: int) -> dict[str, Any]:
        """The outcome of the pretrained network, walked in the task's steps."""
        metrics = _merged([untouched.evaluate(config) for config in self.final(seed)])
        return {"metrics": metrics, "curve_sw2": untouched.evaluate(self.at_curve())["sw2_mean"]}

    def of_trained(self, trained: Algorithm, seed: int) -> dict[str, Any]:
        """Every metric, and the gap that the run's own critic still sees (None where it has no critic)."""
        draw, dataset = _finite(seeded(trained.sample)), trained.dataset
        metrics = _merged([evaluate(draw, dataset, config) for config in self.final(seed)])
        return {"training_ipm": self.training_ipm(trained, seed), "metrics": metrics}

    def training_ipm(self, trained: Algorithm, seed: int) -> float | None:
        """The gap f(data) - f(samples) that the run's own critic sees, in its units, on the first set of ``seed``."""
        config, dataset = self.final(seed)[0], trained.dataset
        if trained.critic is None:
            return None
        data = draw_fresh(dataset, config, config.seeds[0]).reference
        generator = stream(config.seeds[0], "evaluation samples", dataset.device)
        with torch.no_grad():
            samples = seeded(trained.sample)(len(data), generator)
        return trained.critic.distance(dataset.from_data(data), dataset.from_data(samples))

    def watch(self, algorithm: Algorithm, total_timesteps: int) -> SamplerEvaluation:
        """The callback that measures `curve_points` times, after equal numbers of iterations."""
        iterations = math.ceil(total_timesteps / algorithm.iteration_timesteps / self.curve_points)
        return SamplerEvaluation(iterations * algorithm.iteration_timesteps, self.curve_samples)

    def curve(self, history: Sequence[Measurement]) -> list[dict[str, Any]]:
        """Environment steps and SW2."""
        return [{"num_timesteps": point.num_timesteps, "sw2": point.sw2} for point in history]


def _merged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    every = {name: [value for row in rows for value in row["per_seed"][name]] for name in ON_EVERY_SET}
    return {**every, **{name: rows[0]["per_seed"][name] for name in ON_FIRST_SET}}


def _finite(draw: Sample) -> Sample:
    def checked(n: int, generator: torch.Generator) -> Tensor:
        samples = draw(n, generator)
        if not bool(samples.isfinite().all()):
            raise FloatingPointError("Samples of the trained sampler are NaN or infinite.")
        return samples

    return checked
