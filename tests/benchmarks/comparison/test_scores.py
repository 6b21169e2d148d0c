"""Normalised scores against the formula, with diverged, hopeless and missing runs."""

import numpy as np
import pytest

from benchmarks.comparison.scores import CURVE_GRID, LOWEST, curve, normalised


def test_zero_is_untouched_and_one_is_the_floor():
    assert normalised([0.5, 0.1, 0.3, 0.0], untouched=0.5, floor=0.1) == pytest.approx([0.0, 1.0, 0.5, 1.25])


def test_hopeless_and_diverged_runs_score_alike():
    assert normalised([70.0, None], untouched=0.5, floor=0.1).tolist() == [LOWEST, LOWEST]
    assert normalised([0.85], untouched=0.5, floor=0.1) == pytest.approx([-0.875])  # bad, and above the lowest


def test_untouched_and_floor_are_means_over_their_own_runs(write, tiny, alter, results_in):
    folder = write(sft_pg=0.3)
    new = {"sw2": [-0.2, -0.2]}  # the mean of the three seeds is 0.0
    alter(folder, "floor", lambda result: {**result, "metrics": {**result["metrics"], **new}}, "swiss_roll", 0)
    scores = results_in(folder, tiny).scores("sft_pg")
    assert scores[tiny.tasks[0]] == pytest.approx([0.4] * 3)
    assert scores[tiny.tasks[1]] == pytest.approx([0.5] * 3)


def test_references_score_zero_and_one(write, tiny, results_in):
    results = results_in(write(), tiny)
    assert all(score == pytest.approx(0.0) for score in results.scores("untouched").values())
    assert all(score == pytest.approx(1.0) for score in results.scores("floor", "w1").values())


def test_a_task_without_a_reference_has_no_score(write, tiny, alter, results_in):
    folder = write(sft_pg=0.3)
    alter(folder, "floor", lambda result: None, "gaussians8")
    assert list(results_in(folder, tiny).scores("sft_pg")) == [tiny.tasks[0]]


def test_failed_runs_have_no_score_and_diverged_ones_have(write, tiny, alter, results_in):
    folder = write(sft_pg=0.3, ppo=None)
    alter(folder, "sft_pg", {"status": "failed", "error": "OSError: disk", "metrics": None}, "swiss_roll", 1)
    results = results_in(folder, tiny)
    assert [len(scores) for scores in results.scores("sft_pg").values()] == [2, 3]
    assert all((scores == LOWEST).all() for scores in results.scores("ppo").values())
    assert results.values("ppo", "sw2") == []


def test_curves_are_interpolated_and_end_where_a_run_diverged():
    points = [{"num_timesteps": 0, "sw2": 0.5}, {"num_timesteps": 500, "sw2": 0.3}]
    result = {"settings": {"total_timesteps": 1_000}, "curve": points, "status": "finished"}
    values = dict(zip(np.round(CURVE_GRID, 2), curve(result), strict=True))
    assert (values[0.0], values[0.25], values[0.5], values[1.0]) == pytest.approx((0.5, 0.4, 0.3, 0.3))
    lost = dict(zip(np.round(CURVE_GRID, 2), curve({**result, "status": "diverged"}), strict=True))
    assert lost[0.5] == pytest.approx(0.3) and lost[0.55] is None and lost[1.0] is None
    assert curve({**result, "curve": [], "status": "diverged"}) == [None] * len(CURVE_GRID)


def test_learning_curves_begin_at_zero_and_lose_what_diverged(write, tiny, results_in):
    results = results_in(write(sft_pg=0.1, ppo=None), tiny)
    good, lost = (results.curves(name)[tiny.tasks[0]] for name in ("sft_pg", "ppo"))
    assert good.shape == (3, len(CURVE_GRID))
    assert good[:, 0] == pytest.approx(0.0) and good[:, -1] == pytest.approx(1.0)
    assert lost[0, 10] == pytest.approx(0.5) and lost[0, -1] == LOWEST


def test_missing_runs_are_those_of_the_grid_without_a_result(write, tiny, alter, results_in):
    folder = write(sft_pg=0.3)
    alter(folder, "sft_pg", lambda result: None, "swiss_roll", 2)
    missing = results_in(folder, tiny).missing()
    assert len(missing) == 7 and sum(run.entry.name == "ppo" for run in missing) == 6
