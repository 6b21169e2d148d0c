"""One protocol that measures any sampler against fresh data, and the floor: fresh data against fresh data.

Everything is in data units. For each evaluation seed, fresh points are drawn once and cut into three disjoint sets:
the reference, which samples are compared with; the spare set, which takes the place of the samples in ``floor``; and
the support. What is measured is the table `METRICS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.metrics import (
    NEIGHBOURS,
    exact_w1,
    mmd,
    mode_coverage,
    nearest_distances,
    off_support,
    recall,
    sliced_wasserstein,
)
from diffusion_env.evaluation.refitted import MIN_REFIT_POINTS, refitted_ipm
from diffusion_env.evaluation.two_sample import MIN_POINTS, classifier_auc
from diffusion_env.seeds import stream

Sample = Callable[[int, torch.Generator], Tensor]
Scores = dict[str, float | None]

RECALL_SAMPLES = 5_000
REFIT_SAMPLES = 20_000
"""The most points of each side that a critic is trained anew on."""
SUPPORT_QUANTILE = 0.999
SAMPLES, DIRECTIONS = "evaluation samples", "evaluation directions"


@dataclass(frozen=True)
class FreshPoints:
    """Disjoint sets of points in data units, none of them used in training."""

    reference: Tensor  # (n, *shape)
    spare: Tensor  # (n, *shape)
    support: Tensor  # (m, *shape)


@dataclass(frozen=True)
class MetricInput:
    """What a metric is computed from: the samples and the fresh points of one evaluation seed, in data units."""

    samples: Tensor  # (n, *shape)
    points: FreshPoints
    dataset: Dataset
    config: EvaluationConfig
    seed: int

    def first(self, most: int) -> tuple[Tensor, Tensor]:
        """The first samples and reference points, at most ``most`` of each, (most, *shape) both."""
        return self.samples[:most], self.points.reference[:most]

    @cached_property
    def radius(self) -> float:
        """Data units: a sample farther than this from all support points is off the support; see `support_radius`."""
        return support_radius(self.points, self.dataset, self.config)

    def generator(self, name: str) -> torch.Generator:
        """The stream of this seed called ``name`` in `diffusion_env.seeds`, on the samples' device."""
        return stream(self.seed, name, self.samples.device)


def evaluate(sample: Sample, dataset: Dataset, config: EvaluationConfig | None = None) -> dict[str, Any]:
    """Measure a sampler against fresh data.

    Args:
        sample: ``sample(n, generator)`` returns n samples (n, *shape) in data units; the generator is on the
            data set's device.
        dataset: where the fresh points come from.
        config: the protocol; None takes the defaults.

    Returns:
        ``sw2_mean, sw2_low, sw2_high`` and the same for ``w1``: the mean over the seeds and the ends of its
        95 % interval (Student's t; None with a single seed). ``off_support``, ``mmd``, ``mode_coverage``
        (None without modes), ``recall`` (at most 5,000 points per side), ``auc_boosting`` and
        ``auc_neighbours`` (`classifier_auc`, None below 20 points): means. ``refitted_ipm`` (`refitted_ipm` in the
        critic's units, on the first seed; None where it is not asked for, or below 8 points).
        ``per_seed``: the list behind each of them, with None where a seed has no value. ``num_samples`` and
        ``off_support_radius``: what was used.

    Raises:
        ValueError: too few held-out points, or samples of a wrong shape or not finite.
    """
    config = config or EvaluationConfig()

    def draw(points: FreshPoints, seed: int) -> Tensor:
        generator = stream(seed, SAMPLES, dataset.device)
        return _draw_samples(sample, len(points.reference), generator, dataset, config.sample_batch)

    return _repeat(draw, dataset, config)


def floor(dataset: Dataset, config: EvaluationConfig | None = None) -> dict[str, Any]:
    """What `evaluate` returns for a perfect sampler: fresh data against fresh data, same sizes and seeds."""
    return _repeat(lambda points, seed: points.spare, dataset, config or EvaluationConfig())


def _repeat(draw: Callable[[FreshPoints, int], Tensor], dataset: Dataset, config: EvaluationConfig) -> dict[str, Any]:
    """One measurement per seed of what ``draw`` returns, put together as ``evaluate`` documents."""
    scores: list[Scores] = []
    for seed in config.seeds:
        points = draw_fresh(dataset, config, seed)
        given = MetricInput(draw(points, seed), points, dataset, config, seed)
        scores.append({name: metric(given) for name, metric in METRICS.items()})
    return _summary(scores, _num_points(dataset, config)[0])


def draw_fresh(dataset: Dataset, config: EvaluationConfig, seed: int) -> FreshPoints:
    """The fresh points of one evaluation seed: reference and spare (n, *shape), support (m, *shape), data units."""
    n, m = _num_points(dataset, config)
    return FreshPoints(*dataset.fresh(2 * n + m, seed).split([n, n, m]))


def _num_points(dataset: Dataset, config: EvaluationConfig) -> tuple[int, int]:
    """Numbers of samples and of support points."""
    if dataset.draw is not None:
        return config.num_samples, config.support_points
    third = len(dataset.held_out) // 3
    if third < 2:
        raise ValueError(
            f"Dataset {dataset.name!r} has {len(dataset.held_out)} held-out points. An evaluation cuts them "
            "into three sets of at least two. Supply at least 30 points (a fifth is held out)."
        )
    return min(config.num_samples, third), min(config.support_points, third)


def _draw_samples(sample: Sample, n: int, generator: torch.Generator, dataset: Dataset, batch: int) -> Tensor:
    sizes = [min(batch, n - start) for start in range(0, n, batch)]
    with torch.no_grad():
        samples = torch.cat([sample(size, generator) for size in sizes])
    if samples.shape != (n, *dataset.shape):
        raise ValueError(
            f"{n} samples were asked of the sampler and it returned a tensor of shape "
            f"{tuple(samples.shape)}. Dataset {dataset.name!r} needs {(n, *dataset.shape)}: "
            "sample(n, generator) must return exactly n points."
        )
    bad = int((~samples.flatten(1).isfinite().all(dim=1)).sum())
    if bad:
        raise ValueError(
            f"{bad} of {n} samples are NaN or infinite, so no distance to the data exists. The sampler has "
            "diverged: go back to an earlier checkpoint, or lower the learning rate."
        )
    return samples


def support_radius(points: FreshPoints, dataset: Dataset, config: EvaluationConfig) -> float:
    """Farther than this from all support points, in data units, is off the support; see `EvaluationConfig`."""
    if config.support_radius is not None:
        return config.support_radius
    if dataset.support_radius is not None:
        return dataset.support_radius
    return float(nearest_distances(points.reference, points.support).quantile(SUPPORT_QUANTILE))


def _mode_coverage(given: MetricInput) -> float | None:
    if given.dataset.modes is None or given.dataset.mode_radius is None:
        return None
    return mode_coverage(given.samples, given.dataset.modes, given.dataset.mode_radius)


def _recall(given: MetricInput) -> float:
    samples, reference = given.first(RECALL_SAMPLES)
    return recall(samples, reference, min(NEIGHBOURS, len(samples) - 1))


def _auc(given: MetricInput, classifier: str) -> float | None:
    if len(given.samples) < MIN_POINTS:
        return None
    return classifier_auc(given.samples, given.points.reference, classifier, given.seed)


def _refitted_ipm(given: MetricInput) -> float | None:
    """The gap that a critic with new weights finds; it was no reward of the sampler, so none is hidden from it."""
    config, dataset = given.config, given.dataset
    if config.refit_critic is None or given.seed != config.seeds[0] or len(given.samples) < MIN_REFIT_POINTS:
        return None
    critic = make_critic(config.refit_critic, dataset.shape, given.seed, {"body": config.refit_body})
    fake, real = (dataset.from_data(points) for points in given.first(REFIT_SAMPLES))
    return refitted_ipm(critic.to(dataset.device), fake, real, given.seed, max_steps=config.refit_steps).gap


METRICS: dict[str, Callable[[MetricInput], float | None]] = {
    "sw2": lambda given: sliced_wasserstein(
        given.samples, given.points.reference, given.generator(DIRECTIONS), given.config.num_projections
    ),
    "w1": lambda given: exact_w1(*given.first(given.config.w1_samples)),
    "off_support": lambda given: off_support(given.samples, given.points.support, given.radius),
    "off_support_radius": lambda given: given.radius,
    "mmd": lambda given: mmd(*given.first(given.config.w1_samples)),
    "mode_coverage": _mode_coverage,
    "recall": _recall,
    "auc_boosting": lambda given: _auc(given, "boosting"),
    "auc_neighbours": lambda given: _auc(given, "neighbours"),
    "refitted_ipm": _refitted_ipm,
}
"""What `evaluate` measures: name -> function of one seed's points; None where it does not apply.

A metric that draws takes `MetricInput.generator` of an existing stream, or a generator of its own from the seed: no two
metrics are compared with each other, so they may share their random numbers, and a new stream would change those of all
seeds."""
WITH_INTERVAL = ("sw2", "w1")
"""Metrics reported as mean, low and high; the others as a mean."""


def _summary(scores: list[Scores], num_samples: int) -> dict[str, Any]:
    per_seed = {name: [score[name] for score in scores] for name in scores[0]}
    row: dict[str, Any] = {"num_samples": num_samples}
    for name, values in per_seed.items():
        known = [value for value in values if value is not None]
        if name in WITH_INTERVAL:
            row |= zip((f"{name}_mean", f"{name}_low", f"{name}_high"), mean_interval(known), strict=True)
        else:
            row[name] = fmean(known) if known else None
    return row | {"per_seed": per_seed}


def mean_interval(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Mean and the ends of its 95 % interval under Student's t; the ends are None for a single value."""
    mean = fmean(values)
    if len(values) < 2:
        return mean, None, None
    from scipy.special import stdtrit

    half_width = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean, mean - half_width, mean + half_width
