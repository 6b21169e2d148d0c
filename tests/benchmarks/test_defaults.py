"""``python -m benchmarks.defaults`` on a trial budget: it runs, goes on, and writes its report."""

from typing import Any

import pytest

from benchmarks import defaults
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.results import read_folder

SMALL = Protocol(evaluations=1, num_samples=200, w1_samples=50, refit_steps=3, curve_points=1, curve_samples=100)


@pytest.fixture(scope="module")
def config(tmp_path_factory: Any) -> defaults.DefaultsConfig:
    results = tmp_path_factory.mktemp("results")
    sizes: dict[str, Any] = {"scale": 0.0005, "seeds": (0,), "protocol": SMALL, "processes": 1, "results": results}
    return defaults.DefaultsConfig(tasks=("moons_k1", "gaussians8_k4"), **sizes)


@pytest.fixture(scope="module")
def trial(config: defaults.DefaultsConfig) -> dict[str, list[Any]]:
    assert defaults.main(config) == 0
    return read_folder(config.plan.folder)


def test_every_run_is_there_with_its_metrics(trial: dict[str, list[Any]]) -> None:
    assert sorted(trial) == ["floor", "pathwise", "sft_pg", "untouched"]
    for runs in trial.values():
        assert [(run["task"]["dataset"], run["task"]["num_steps"]) for run in runs] == [
            ("moons", 1),
            ("gaussians8", 4),
        ] or len(runs) == 2
        assert all(run["metrics"]["auc_boosting"][0] > 0 and run["metrics"]["w1"][0] > 0 for run in runs)


def test_the_report_has_a_line_per_task_and_says_what_is_missed(
    trial: dict[str, list[Any]], config: defaults.DefaultsConfig
) -> None:
    text = (config.results / "defaults_x0.0005.md").read_text()
    assert "8 of 800 runs are there" in text.replace("\n", " ")
    assert "| `sft_pg` | 1 | moons | 1 |" in text and "| `pathwise` | 4 | gaussians8 | 1 |" in text
    assert "**missed**" in text  # two hundred trajectories reach nothing


def test_finished_runs_are_not_repeated(
    trial: dict[str, list[Any]], config: defaults.DefaultsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    assert defaults.main(config) == 0
