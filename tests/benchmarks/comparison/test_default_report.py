"""The report of the defaults: targets are computed from the runs, and a missed one is called so."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison.default_grids import DEFAULTS
from benchmarks.comparison.default_report import AUCS, iqm_of, largest, mean_of, target_table, worst_task, write_report
from benchmarks.comparison.grid import Run
from benchmarks.comparison.scores import Results

NUMBERS: dict[str, dict[int, dict[str, float]]] = {
    "floor": {
        k: {"sw2": 0.1, "w1": 0.2, "auc_boosting": 0.5, "auc_neighbours": 0.5, "off_support": 0.0} for k in (1, 4)
    },
    "untouched": {
        k: {"sw2": 1.1, "w1": 1.2, "auc_boosting": 0.9, "auc_neighbours": 0.8, "off_support": 0.5} for k in (1, 4)
    },
    "sft_pg": {
        1: {"sw2": 0.2, "w1": 0.3, "auc_boosting": 0.58, "auc_neighbours": 0.61, "off_support": 0.02},
        4: {"sw2": 0.1, "w1": 0.2, "auc_boosting": 0.52, "auc_neighbours": 0.53, "off_support": 0.02},
    },
}


@pytest.fixture
def results() -> Results:
    """One set at K = 1 and 4, one seed; of `pathwise` there is nothing."""
    found: dict[Run, Any] = {}
    for run in DEFAULTS.runs([0]):
        k = run.task.num_steps
        if run.task.dataset == "moons" and k in (1, 4) and run.entry.name in NUMBERS:
            metrics = {name: [x] for name, x in NUMBERS[run.entry.name][k].items()}
            found[run] = {"status": "finished", "metrics": metrics, "train_cpu_seconds": 7.0, "error": ""}
    return Results(DEFAULTS, found)


def test_targets_are_computed_from_the_runs(results: Results) -> None:
    assert mean_of("sw2")(results, "sft_pg") == pytest.approx(0.95)
    assert iqm_of("sw2")(results, "sft_pg") == pytest.approx(0.95)
    assert worst_task("sw2")(results, "sft_pg") == pytest.approx(0.9)
    assert largest(AUCS, lambda k: k >= 4)(results, "sft_pg") == 0.53
    assert largest(AUCS, lambda k: k < 4)(results, "sft_pg") == 0.61
    assert largest(["off_support"], lambda k: k == 20)(results, "sft_pg") is None
    assert mean_of("sw2")(results, "pathwise") is None


def test_what_is_missed_is_called_so(results: Results) -> None:
    lines = {line.split(" | ")[0].lstrip("| "): line for line in target_table(results).splitlines()}
    assert "0.610 **missed** | -" in lines["AUC of either classifier, worst task, K < 4"]
    assert "0.530 met | -" in lines["AUC of either classifier, worst task, K >= 4"]
    assert "0.020 **missed**" in lines["off support, worst task, K >= 4"]
    assert "0.020 met" in lines["off support, worst task, K = 1"]
    assert "`sft_pg`, 2 of 200 runs | `pathwise`, 0 of 200 runs" in target_table(results)


def test_nothing_to_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No results.*benchmarks\.defaults"):
        write_report(Results(DEFAULTS, {}), tmp_path, tmp_path / "defaults.md", 1)
