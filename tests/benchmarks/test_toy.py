"""``python -m benchmarks.toy`` on a trial budget: it runs, resumes, survives a failed run, and writes its report."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks import toy
from benchmarks.comparison.results import read_folder
from benchmarks.comparison.toy_grid import TOY, ToyProtocol
from benchmarks.comparison.toy_report import compared

ROWS = ("floor", "ddpm_10", "sft_pg_short", "published_sft_pg_b")
SMALL = ToyProtocol(evaluations=2, num_samples=200, large_samples=300, refit_steps=3, curve_samples=200)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    return toy.ToyConfig(scale=0.001, seeds=(0, 1), rows=ROWS, protocol=SMALL, processes=1, results=results)


@pytest.fixture(scope="module")
def trial(config):
    assert toy.main(config) == 0
    return read_folder(config.folder)


def test_every_row_has_a_complete_result_per_seed(trial):
    assert sorted(trial) == sorted(ROWS)
    for name, runs in trial.items():
        assert [run["seed"] for run in runs] == [0, 1]
        for run in runs:
            assert len(run["metrics"]["per_seed"]["sw2"]) == SMALL.evaluations
            assert run["large_metrics"]["num_samples"] == SMALL.large_samples
            assert run["metrics"]["refitted_ipm"] is not None and run["metrics"]["auc_boosting"] > 0
            assert run["versions"]["torch"] and run["machine"]["processor"] and run["commit"]
            assert ("curve" in run) == name.endswith(("short", "_b"))


def test_training_rows_report_their_costs(trial):
    run = trial["sft_pg_short"][0]
    assert run["timesteps"] >= run["settings"]["total_timesteps"] == 4_000
    assert run["train_cpu_seconds"] > 0
    assert run["curve"][-1]["num_timesteps"] == run["timesteps"]


def test_ratio_to_the_floor_is_one_for_the_floor_and_not_for_another_row(trial):
    def ratio(name):
        return compared(trial[name], trial["floor"], "metrics", "sw2", lambda row, floor: row / floor)

    assert ratio("floor") == [1.0, 1.0]
    assert min(ratio("published_sft_pg_b")) > 1.5


def test_a_trial_has_a_folder_and_a_report_of_its_own(trial, config):
    assert config.folder == config.results / "toy_x0.001"
    assert "**A trial" in (config.results / "RESULTS_x0.001.md").read_text()
    assert (config.folder / "published_10.safetensors").exists()


def test_finished_runs_are_not_repeated(trial, config, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    monkeypatch.setattr(toy, "pretrain_published", None)
    assert toy.main(config) == 0


def test_saved_samplers_are_measured_again_without_training(trial, config, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    assert toy.main(replace(config, measure_only=True)) == 0
    again = read_folder(config.folder)
    for name in ("sft_pg_short", "published_sft_pg_b"):
        assert again[name] == trial[name]


def test_one_failed_run_is_counted_and_loses_no_other(trial, config, tmp_path, monkeypatch):
    floor, ddpm = TOY.entries[:2]
    broken = replace(ddpm, tasks=(replace(ddpm.tasks[0], sampler="no_such_sampler"),))
    tasks = (*floor.tasks, *broken.tasks)
    monkeypatch.setattr(toy, "TOY", replace(TOY, entries=(floor, broken), tasks=tasks))
    small = replace(config, rows=(), seeds=(0,), results=tmp_path)
    assert toy.main(small) == 1
    found = read_folder(small.folder)
    assert found["floor"][0]["status"] == "finished"
    assert found["ddpm_10"][0]["status"] == "failed" and "Unknown sampler" in found["ddpm_10"][0]["error"]


def test_unknown_rows_list_the_rows(config):
    with pytest.raises(ValueError, match=r"Unknown entries \['sft'\].*'sft_pg_full'"):
        toy.main(replace(config, rows=("sft",)))


def test_help_names_the_options():
    done = subprocess.run([sys.executable, "-m", "benchmarks.toy", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--results" in done.stdout and "--seeds" in done.stdout
