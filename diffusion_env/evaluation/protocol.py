"""One protocol that measures any sampler against fresh data, with the floor that fresh data itself reaches.

Everything is in data units. Per evaluation seed, three disjoint sets of fresh points are cut from one draw:
the reference, the spare set that stands for a perfect sampler in ``floor``, and the support.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from diffusion_env.config import EvaluationConfig
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

Sample = Callable[[int, torch.Generator], Tensor]
Scores = dict[str, float | None]

CRITIC_BATCH = 256
RECALL_SAMPLES = 5_000
SUPPORT_QUANTILE = 0.999
SAMPLE_STREAM, PROJECTION_STREAM, CRITIC_STREAM = 0, 1, 2
NUM_STREAMS = 3
WITH_INTERVAL = ("sw2", "w1")


@dataclass(frozen=True)
class FreshPoints:
    """Disjoint sets of points in data units, none of them used in training."""

    reference: Tensor  # (n, *shape)
    spare: Tensor  # (n, *shape)
    support: Tensor  # (m, *shape)


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
        (None without modes), ``recall`` (at most 5,000 points per side) and ``held_out_critic`` (None if not
        asked for): means. ``per_seed``: the list behind each of them. ``num_samples`` and
        ``off_support_radius``: what was used.

    Raises:
        ValueError: too few held-out points, or samples of a wrong shape or not finite.
    """
    config = config or EvaluationConfig()

    def draw(points: FreshPoints, seed: int) -> Tensor:
        generator = _generator(seed, SAMPLE_STREAM, dataset.device)
        return _draw_samples(sample, len(points.reference), generator, dataset, config.sample_batch)

    return _repeat(draw, dataset, config)


def floor(dataset: Dataset, config: EvaluationConfig | None = None) -> dict[str, Any]:
    """The row of ``evaluate`` for a perfect sampler: fresh data against fresh data, same sizes and seeds."""
    return _repeat(lambda points, seed: points.spare, dataset, config or EvaluationConfig())


def _repeat(draw: Callable[[FreshPoints, int], Tensor], dataset: Dataset, config: EvaluationConfig) -> dict[str, Any]:
    """One measurement per seed of what ``draw`` returns, put together as ``evaluate`` documents."""
    scores = []
    for seed in config.seeds:
        points = draw_fresh(dataset, config, seed)
        scores.append(_measure(draw(points, seed), points, dataset, config, seed))
    return _summary(scores, _num_points(dataset, config)[0])


def draw_fresh(dataset: Dataset, config: EvaluationConfig, seed: int) -> FreshPoints:
    """The fresh points of one evaluation seed."""
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


def _measure(samples: Tensor, points: FreshPoints, dataset: Dataset, config: EvaluationConfig, seed: int) -> Scores:
    """Every metric of samples (n, *shape) for one seed."""
    few, few_reference = samples[: config.w1_samples], points.reference[: config.w1_samples]
    directions = _generator(seed, PROJECTION_STREAM, samples.device)
    radius = support_radius(points, dataset, config)
    return {
        "sw2": sliced_wasserstein(samples, points.reference, directions, config.num_projections),
        "w1": exact_w1(few, few_reference),
        "off_support": off_support(samples, points.support, radius),
        "off_support_radius": radius,
        "mmd": mmd(few, few_reference),
        "mode_coverage": _mode_coverage(samples, dataset),
        "recall": _recall(samples[:RECALL_SAMPLES], points.reference[:RECALL_SAMPLES]),
        "held_out_critic": _critic_distance(samples, points.reference, dataset, config, seed),
    }


def support_radius(points: FreshPoints, dataset: Dataset, config: EvaluationConfig) -> float:
    """Data units; see ``EvaluationConfig.support_radius``."""
    if config.support_radius is not None:
        return config.support_radius
    if dataset.support_radius is not None:
        return dataset.support_radius
    return float(nearest_distances(points.reference, points.support).quantile(SUPPORT_QUANTILE))


def _mode_coverage(samples: Tensor, dataset: Dataset) -> float | None:
    if dataset.modes is None or dataset.mode_radius is None:
        return None
    return mode_coverage(samples, dataset.modes, dataset.mode_radius)


def _recall(samples: Tensor, reference: Tensor) -> float:
    return recall(samples, reference, min(NEIGHBOURS, len(samples) - 1))


def _critic_distance(
    samples: Tensor, reference: Tensor, dataset: Dataset, config: EvaluationConfig, seed: int
) -> float | None:
    """W1 in data units by a gradient-penalty critic trained on one half of the points (n, *shape) that judges
    the other half: a sampler that only learned to please its own critic does not please this one."""
    if not config.held_out_critic:
        return None
    from diffusion_env.critics import make_critic

    body = {"body": config.held_out_body}
    critic = make_critic("gradient_penalty", dataset.shape, seed, body).to(dataset.device)
    generator = _generator(seed, CRITIC_STREAM, dataset.device)
    half = len(samples) // 2
    real, fake = dataset.from_data(reference), dataset.from_data(samples)
    for _ in range(config.critic_steps):
        index = torch.randint(half, (2, CRITIC_BATCH), generator=generator, device=dataset.device)
        critic.update(real[index[0]], fake[index[1]])
    # The critic's slope is 1 per network unit, that is 1 / scale per data unit.
    return dataset.scale * critic.distance(real[half:], fake[half:])


def _generator(seed: int, stream: int, device: torch.device) -> torch.Generator:
    """Streams of one evaluation seed, and of different seeds, never share a generator's seed."""
    return torch.Generator(device).manual_seed(NUM_STREAMS * seed + stream)


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
