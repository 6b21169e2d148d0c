"""Aggregates against brute force, scipy's own bootstrap, and the coverage that an interval promises."""

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap, trim_mean

from benchmarks.comparison.statistics import (
    difference_interval,
    improvement_interval,
    iqm,
    iqm_interval,
    probability_of_improvement,
)


def runs(seed: int, tasks: int = 3, per_task: int = 5, spread: float = 0.1) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [task + spread * rng.standard_normal(per_task) for task in range(tasks)]


def test_iqm_is_the_mean_of_the_middle_half():
    scores = [np.array([9.0, 1.0, 2.0, -50.0]), np.array([3.0, 4.0, 70.0, 0.0])]
    assert iqm(scores) == np.mean([1.0, 2.0, 3.0, 4.0])
    curves = [np.stack([task, 2 * task], axis=1) for task in scores]
    assert iqm(curves).tolist() == [2.5, 5.0]


def test_iqm_interval_is_scipys_bootstrap_of_several_samples():
    scores = runs(0)
    ours = iqm_interval(scores, seed=1, resamples=9_000)
    theirs = bootstrap(
        tuple(scores),
        lambda *parts, axis: trim_mean(np.concatenate(parts, axis=axis), 0.25, axis=axis),
        method="percentile",
        n_resamples=9_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (float(ours.low), float(ours.high)) == pytest.approx((theirs.low, theirs.high), abs=0.05 * width)
    assert ours.low < ours.estimate < ours.high


def test_runs_are_resampled_within_their_task():
    # Between tasks there is a large difference, within a task none: the interval has no width. Pooled, it has.
    scores = [np.full(5, 0.0), np.full(5, 1.0), np.full(5, 5.0)]
    inside = iqm_interval(scores, seed=0)
    assert inside.low == inside.high == inside.estimate
    pooled = iqm_interval([np.concatenate(scores)], seed=0)
    assert pooled.high - pooled.low > 0.5


def test_the_seed_fixes_an_interval():
    scores = runs(0)
    assert iqm_interval(scores, seed=3) == iqm_interval(scores, seed=3)
    assert iqm_interval(scores, seed=3) != iqm_interval(scores, seed=4)


def test_points_of_a_curve_have_the_interval_they_have_alone():
    scores = runs(0)
    curve = iqm_interval([np.stack([task, 3 * task], axis=1) for task in scores], seed=5)
    alone = iqm_interval(scores, seed=5)
    assert curve.low == pytest.approx([float(alone.low), 3 * float(alone.low)])


def covers(width: float) -> float:
    """How often the interval around iqm of 8 tasks x 5 normal runs, stretched to ``width``, holds the truth."""
    hits = 0
    for seed in range(200):
        noise = np.random.default_rng(seed).standard_normal((8, 5))
        estimate, low, high = iqm_interval(list(noise), seed, resamples=400)
        hits += bool(estimate - width * (estimate - low) <= 0.0 <= estimate + width * (high - estimate))
    return hits / 200


def test_interval_covers_the_truth_as_often_as_it_says():
    # Few seeds make a percentile bootstrap a little too narrow: sqrt(4 / 5) of the width at five runs per task.
    assert 0.87 <= covers(1.0) <= 0.98
    assert covers(0.4) < 0.75  # negative control: a narrower one does not


def test_probability_of_improvement_counts_pairs():
    x, y = [np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0])], [np.array([2.0, 0.0]), np.array([0.0, 5.0, 5.0])]
    brute = []
    for a, b in zip(x, y, strict=True):
        brute.append(np.mean([float(p > q) + 0.5 * float(p == q) for p, q in itertools.product(a, b)]))
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(brute))
    assert probability_of_improvement(y, x) == pytest.approx(1 - np.mean(brute))


def test_improvement_interval_tells_better_from_equal():
    same = improvement_interval(runs(0), runs(1), seed=0)
    better = improvement_interval([task + 0.3 for task in runs(0)], runs(1), seed=0)
    assert same.low < 0.5 < same.high
    assert better.low > 0.9 and better.high == 1.0


def test_difference_interval_is_that_of_independent_sides():
    x, y = [task + 0.3 for task in runs(0)], runs(1)
    found = difference_interval(x, y, seed=0)
    assert found.estimate == pytest.approx(iqm(x) - iqm(y)) and found.low < found.estimate < found.high
    widths = [side.high - side.low for side in (iqm_interval(x, seed=1), iqm_interval(y, seed=2))]
    assert found.high - found.low == pytest.approx(np.hypot(*widths), rel=0.15)  # variances add
    back = difference_interval(y, x, seed=0)
    assert (back.estimate, back.low) == pytest.approx((-found.estimate, -found.high), abs=0.1 * float(widths[0]))
    assert found.low > 0  # and of two that are equal:
    assert difference_interval(runs(0), runs(0), seed=0).low < 0 < difference_interval(runs(0), runs(0), seed=0).high


def test_a_single_run_has_no_interval():
    lone = [np.array([1.0]), np.array([1.0, 2.0])]
    assert np.isnan(iqm_interval(lone, seed=0).low) and iqm_interval(lone, seed=0).estimate == iqm(lone)
    assert np.isnan(improvement_interval(lone, lone, seed=0).high)
    assert np.isnan(difference_interval(lone, lone, seed=0).low)
