"""Aggregates of few runs on several tasks: pure functions of scores and a seed (Agarwal et al., NeurIPS 2021).

Letters: T tasks, n_t runs on task t, P points of a curve. Scores are one array per task, (n_t,), or (n_t, P) for
curves. Runs are resampled within their task: tasks are fixed, the seeds are what is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu, trim_mean

Array = NDArray[np.float64]
Strata = Sequence[Array]

RESAMPLES = 2_000
LEVEL = 0.95
MIDDLE = 0.25  # the share cut off at either end


class Interval(NamedTuple):
    """An estimate and the ends of its percentile bootstrap interval, each () or (P,); the ends may be NaN."""

    estimate: Array
    low: Array
    high: Array


def iqm(scores: Strata) -> Array:
    """Interquartile mean of all runs of all tasks, () or (P,): the mean of the middle half."""
    return np.asarray(trim_mean(np.concatenate(list(scores)), MIDDLE, axis=0))


def iqm_interval(scores: Strata, seed: int, resamples: int = RESAMPLES) -> Interval:
    """`iqm` and its interval; the ends are NaN where a task has fewer than two runs, which cannot vary."""
    generator = np.random.default_rng(seed)
    drawn = np.concatenate([_resampled(task, resamples, generator) for task in scores], axis=1)
    return _interval(iqm(scores), np.asarray(trim_mean(drawn, MIDDLE, axis=1)), scores)


def difference_interval(x: Strata, y: Strata, seed: int, resamples: int = RESAMPLES) -> Interval:
    """`iqm` of ``x`` less that of ``y``, the same tasks in the same order, and its interval; both are resampled."""
    generator = np.random.default_rng(seed)
    drawn = [np.concatenate([_resampled(task, resamples, generator) for task in side], axis=1) for side in (x, y)]
    bootstrapped = [np.asarray(trim_mean(side, MIDDLE, axis=1)) for side in drawn]
    return _interval(np.asarray(iqm(x) - iqm(y)), bootstrapped[0] - bootstrapped[1], [*x, *y])


def probability_of_improvement(x: Strata, y: Strata) -> float:
    """Mean over tasks of the chance that a run of ``x`` beats one of ``y`` (Mann-Whitney's U / (n m), ties half).

    ``x`` and ``y`` hold the same tasks in the same order.
    """
    pairs = list(zip(x, y, strict=True))
    return float(np.mean([mannwhitneyu(a, b, method="asymptotic").statistic / (len(a) * len(b)) for a, b in pairs]))


def improvement_interval(x: Strata, y: Strata, seed: int, resamples: int = RESAMPLES) -> Interval:
    """`probability_of_improvement` and its interval; both sides are resampled."""
    generator = np.random.default_rng(seed)
    chances = []
    for a, b in zip(x, y, strict=True):
        difference = _resampled(a, resamples, generator)[:, :, None] - _resampled(b, resamples, generator)[:, None]
        chances.append(((difference > 0) + 0.5 * (difference == 0)).mean(axis=(1, 2)))
    return _interval(np.asarray(probability_of_improvement(x, y)), np.mean(chances, axis=0), [*x, *y])


def _resampled(runs: Array, resamples: int, generator: np.random.Generator) -> Array:
    """(resamples, n_t, ...) of runs (n_t, ...), drawn with replacement."""
    return runs[generator.integers(len(runs), size=(resamples, len(runs)))]


def _interval(estimate: Array, bootstrapped: Array, scores: Strata) -> Interval:
    if min(len(task) for task in scores) < 2:
        return Interval(estimate, np.full_like(estimate, np.nan), np.full_like(estimate, np.nan))
    low, high = np.quantile(bootstrapped, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return Interval(estimate, low, high)
