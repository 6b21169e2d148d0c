"""The toy table on a trial budget: it runs, resumes, survives a failed run, and reports only what is in the JSON."""

import json
from dataclasses import replace

import pytest

from benchmarks import toy
from benchmarks.comparison.suite import TOY, find
from benchmarks.comparison.toy_report import (
    README_END,
    README_START,
    compared,
    load_results,
    values,
    verdict,
    write_readme,
    write_report,
)
from diffusion_env.checkpoints import write_json

ROWS = ("floor", "ddpm_10", "sft_pg_short", "published_sft_pg_b")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results") / "toy"
    folder.mkdir()
    return toy.ToyConfig(
        scale=0.001, num_seeds=2, evaluations=2, num_samples=200, large_samples=300, rows=ROWS, results=folder
    )


@pytest.fixture(scope="module")
def trial(config):
    for row in find(TOY, list(config.rows)):
        for seed in range(config.num_seeds):
            toy.run_and_save(row, seed, config)
    return load_results(config.results)


def test_every_row_has_a_complete_result_per_seed(trial, config):
    assert sorted(trial) == sorted(ROWS)
    for name, runs in trial.items():
        assert [run["seed"] for run in runs] == [0, 1]
        for run in runs:
            assert len(run["metrics"]["per_seed"]["sw2"]) == config.evaluations
            assert run["large_metrics"]["num_samples"] == config.large_samples
            assert run["held_out"]["held_out_critic"] is not None
            assert run["versions"]["torch"] and run["machine"]["processor"] and run["commit"]
            assert ("curve" in run) == name.endswith(("short", "_b"))


def test_training_rows_report_their_costs(trial):
    run = trial["sft_pg_short"][0]
    assert run["timesteps"] >= 0.001 * run["row"]["total_timesteps"]
    assert run["train_cpu_seconds"] > 0
    assert run["curve"][-1]["num_timesteps"] == run["timesteps"]


def test_rows_share_their_evaluation_sets_and_seeds_do_not():
    config = toy.ToyConfig()
    first, second = (toy.protocol(TOY[0], seed, config)["metrics"].seeds for seed in (0, 1))
    assert not set(first) & set(second)
    assert all(toy.protocol(row, 0, config)["metrics"].seeds == first for row in TOY)


def test_ratio_to_the_floor_is_one_for_the_floor_and_not_for_another_row(trial):
    def ratio(name):
        return compared(trial[name], trial["floor"], "metrics", "sw2", lambda row, floor: row / floor)

    assert ratio("floor") == [1.0, 1.0]
    assert min(ratio("published_sft_pg_b")) > 1.5


def test_report_holds_the_measured_numbers(trial, config):
    text = write_report(config.results, TOY)
    assert (config.results.parent / "RESULTS.md").read_text() == text
    assert "**A trial" in text and "What is not claimed" in text
    mean = sum(values(trial["ddpm_10"], "metrics", "sw2")) / 2
    line = next(line for line in text.splitlines() if line.startswith("| `ddpm_10`"))
    assert f" {100 * mean:.2f} ± " in line
    changed = json.loads((config.results / "ddpm_10_seed0.json").read_text())
    changed["metrics"]["per_seed"]["sw2"] = [9.0, 9.0]
    elsewhere = config.results.parent / "changed"
    for path in config.results.glob("*.json"):
        write_json(elsewhere / path.name, json.loads(path.read_text()))
    write_json(elsewhere / "ddpm_10_seed0.json", changed)
    assert line not in write_report(elsewhere, TOY)


def test_the_readme_gets_the_short_table_between_its_markers(trial, config, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{README_START}\nold\n{README_END}\nafter\n")
    for _ in range(2):  # writing it again changes nothing
        write_readme(readme, config.results, TOY)
        text = readme.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert [line.split("`")[1] for line in text.splitlines() if "`" in line] == ["floor", "ddpm_10", "sft_pg_short"]
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="must hold the lines"):
        write_readme(readme, config.results, TOY)


def test_finished_runs_are_not_repeated(trial, config, monkeypatch):
    monkeypatch.setattr(toy, "run_and_save", None)  # would fail if it were called
    assert toy.run_missing(find(TOY, list(config.rows)), config) == 0


def test_one_failed_run_is_counted_and_loses_no_other(config, tmp_path, capsys):
    broken = replace(find(TOY, ["ddpm_10"])[0], name="broken", sampler="no_such_sampler")
    rows = (broken, find(TOY, ["floor"])[0])
    small = replace(config, num_seeds=1, evaluations=1, results=tmp_path, processes=1)
    assert toy.run_missing(rows, small) == 1
    assert "FAILED ValueError: Unknown sampler" in capsys.readouterr().out
    assert list(load_results(tmp_path)) == ["floor"]


def test_verdict_tells_a_difference_from_none():
    assert "yes, it can" in verdict([0.1, 0.11, 0.12])
    assert "no, the interval contains 0" in verdict([-0.1, 0.11, 0.05])
    assert verdict([0.1]) == "too few seeds"


def test_unknown_row_lists_the_rows():
    with pytest.raises(ValueError, match="sft_pg_full"):
        find(TOY, ["sft"])


def test_no_results_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.toy"):
        write_report(tmp_path, TOY)
