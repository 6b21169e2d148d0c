"""``python -m benchmarks.compare``: a grid on a trial budget, its reports, and an algorithm beside it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare
from benchmarks.comparison.grids import GRIDS
from benchmarks.comparison.results import read_folder

ROOT = Path(__file__).parents[2]
SCALE = 0.005
TASK = "swiss_roll_k1"


@pytest.fixture(scope="module")
def config(tmp_path_factory, small):
    return compare.CompareConfig(
        algorithms=("floor", "untouched", "sft_pg"),
        tasks=(TASK,),
        seeds=(0,),
        processes=1,
        scale=SCALE,
        protocol=small,
        results=tmp_path_factory.mktemp("compare"),
    )


@pytest.fixture(scope="module")
def first(config):
    assert compare.main(config) == 0
    return read_folder(config.folder)


def test_what_is_asked_for_is_run_and_reported(first, config):
    assert sorted(first) == ["floor", "sft_pg", "untouched"]
    assert first["sft_pg"][0]["settings"]["total_timesteps"] == SCALE * GRIDS["main"].total_timesteps[1]
    report = (config.results / f"main_x{SCALE:g}.md").read_text()
    assert "3 of 1050 runs: 3 finished" in report and "incomplete" in report


def test_the_second_call_runs_nothing(first, config, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    before = {path: path.read_bytes() for path in config.folder.glob("*.jsonl")}
    assert compare.main(config) == 0
    assert {path: path.read_bytes() for path in config.folder.glob("*.jsonl")} == before


def test_saved_samplers_are_measured_again_without_training(first, config, monkeypatch):
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    bigger = replace(config, measure_only=True, protocol=replace(config.protocol, evaluations=3))
    assert compare.main(bigger) == 0
    again = read_folder(config.folder)
    assert again.keys() == first.keys()
    for name, (before,) in first.items():
        (after,) = again[name]
        assert after["metrics"]["sw2"][:2] == before["metrics"]["sw2"] and len(after["metrics"]["sw2"]) == 3
    assert again["sft_pg"][0]["curve"] == first["sft_pg"][0]["curve"]
    assert compare.main(replace(config, measure_only=True)) == 0
    assert read_folder(config.folder)["sft_pg"] == first["sft_pg"]
    with pytest.raises(ValueError, match="choose one"):
        replace(config, measure_only=True, report_only=True)


def test_one_command_rebuilds_the_report_of_every_grid(first, config, monkeypatch):
    for name in ("ten_steps", "longer"):  # of which the trial has no result
        monkeypatch.delitem(GRIDS, name)
    everything = replace(config, grid="all", algorithms=(), tasks=(), seeds=(), report_only=True)
    assert compare.main(everything) == 0
    assert {path.stem for path in config.results.glob("*.md")} == {f"{name}_x{SCALE:g}" for name in GRIDS}


def test_other_budgets_have_folders_of_their_own(tmp_path):
    full, half = (compare.CompareConfig(results=tmp_path, scale=scale) for scale in (1.0, 0.5))
    assert full.folder.name == "runs" and half.folder.name == "runs_x0.5"
    run = GRIDS["main"].runs()[-1]
    assert full.plan(GRIDS["main"]).budget(run) == 2 * half.plan(GRIDS["main"]).budget(run) > 0


def test_a_trial_of_your_algorithm_has_a_folder_of_its_own(tmp_path):
    config = compare.CompareConfig(algo="ppo", name="mine", scale=0.5, output=tmp_path / "out")
    assert config.stranger().folder == tmp_path / "out_x0.5"
    assert replace(config, scale=1.0).stranger().folder == tmp_path / "out"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"grid": "mian"}, r"Unknown grids \['mian'\]. Choose from .*'main'"),
        ({"tasks": ("swiss_roll",)}, "Unknown tasks .*'swiss_roll_k10'"),
        ({"algorithms": ("sarsa",)}, "Unknown entries .*'ppo'"),
        ({"seeds": (9,)}, r"Unknown seeds \[9\]"),
        ({"algo": "sarsa"}, "Unknown algorithm 'sarsa'"),
        ({"algo": "ppo", "grid": "all"}, "--algo is compared with one grid; received --grid all"),
        ({"algo": "ppo", "changes": ("n_epochs",)}, "--set takes NAME=VALUE"),
        ({"algo": "ppo", "changes": ("epochs=3",), "name": "my_ppo"}, "no hyper-parameter"),
    ],
)
def test_unknown_names_list_what_there_is(tmp_path, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        compare.main(compare.CompareConfig(results=tmp_path, output=tmp_path, **changes))


def test_a_damaged_line_stops_the_command_with_a_sentence(tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "ppo.jsonl").write_text("{}\n")
    command = [sys.executable, "-m", "benchmarks.compare", "--report-only", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "ppo.jsonl, line 1, is damaged" in done.stderr
