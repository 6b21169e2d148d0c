"""Runs of a grid, made for real on a trial budget: complete results, equal budgets, resuming, failures, divergence."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from agents.core.task import Task
from agents.zoo import find
from benchmarks.comparison.grid import REFERENCES, Entry, Run
from benchmarks.comparison.grids import GRIDS, NUM_ENVS
from benchmarks.comparison.protocol import ON_EVERY_SET, ON_FIRST_SET
from benchmarks.comparison.record import load
from benchmarks.comparison.results import WORKING, merge_parts, read_folder, write_entry, write_part
from benchmarks.comparison.runner import (
    Plan,
    execute,
    measure_saved,
    measured_again,
    missing,
    run_missing,
    same_settings,
    settings,
)
from benchmarks.comparison.samplers import sampler_path
from diffusion_env.checkpoints import CheckpointError, load_object, save_object

BUDGET = 3_840
TASK = Task("swiss_roll", num_steps=1, num_envs=NUM_ENVS)
ALGORITHMS = ("sft_pg", "pathwise", "ppo", "td3")


def grid_of(*entries, num_seeds=1):
    main = GRIDS["main"]
    chosen = entries or tuple(entry for entry in main.entries if entry.name in ALGORITHMS)
    return replace(
        main, entries=chosen, tasks=(TASK,), total_timesteps={1: BUDGET}, num_seeds=num_seeds, baseline=chosen[0].name
    )


@pytest.fixture(scope="module")
def plan(tmp_path_factory, small):
    return Plan(grid_of(), tmp_path_factory.mktemp("results"), small)


@pytest.fixture(scope="module")
def results(plan):
    for run in plan.grid.runs():
        write_part(plan.folder, execute(run, plan))
    merge_parts(plan.folder)
    return {name: found[0] for name, found in read_folder(plan.folder).items()}


def test_every_run_is_complete(results, plan):
    assert sorted(results) == sorted((*REFERENCES, *ALGORITHMS))
    for name, result in results.items():
        assert result["status"] == "finished" and result["seed"] == 0 and result["task"]["num_steps"] == 1
        assert all(len(result["metrics"][metric]) == plan.protocol.evaluations for metric in ON_EVERY_SET)
        assert all(len(result["metrics"][metric]) == 1 for metric in ON_FIRST_SET)
        assert result["versions"]["torch"] and result["commit"] and result["peak_resident_mib"] > 0
        assert ("curve_sw2" in result) == (name in REFERENCES)


def test_every_entry_has_the_same_budget(results):
    for name in ALGORITHMS:
        made = find(name).make(TASK, 0, results[name]["settings"]["hyperparameters"])
        assert results[name]["settings"]["total_timesteps"] == BUDGET
        assert 0 <= results[name]["timesteps"] - BUDGET < made.iteration_timesteps


def test_costs_leave_evaluation_out_and_curves_span_the_run(results, plan):
    for name in ALGORITHMS:
        result = results[name]
        curve = result["curve"]
        assert curve[0]["num_timesteps"] == 0 and curve[-1]["num_timesteps"] == result["timesteps"]
        assert 3 <= len(curve) <= plan.protocol.curve_points + 2
        assert result["train_cpu_seconds"] > 0 and isinstance(result["training_ipm"], float)
    # Each state is evaluated once in the rollout and once in the one update; measuring adds nothing.
    assert results["sft_pg"]["network_evaluations"] == 2 * results["sft_pg"]["timesteps"]


def test_a_run_is_a_function_of_its_seed(results, plan):
    run = next(run for run in plan.grid.runs() if run.entry.name == "sft_pg")
    again = execute(run, plan)
    assert again["metrics"] == results["sft_pg"]["metrics"] and again["curve"] == results["sft_pg"]["curve"]
    assert execute(replace(run, seed=1), plan)["metrics"] != again["metrics"]


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_saved_sampler_is_measured_again_to_the_bit(results, plan, name, monkeypatch):
    run = next(run for run in plan.grid.runs() if run.entry.name == name)
    path = sampler_path(plan.folder, run)
    assert path.exists() and path.stat().st_size < 1_000_000
    monkeypatch.setattr("benchmarks.comparison.runner.divergence", None)  # training would call it
    assert measured_again(run, plan, results[name]) == results[name]
    more = replace(plan, protocol=replace(plan.protocol, evaluations=3))
    again = measured_again(run, more, results[name])
    assert again["metrics"]["sw2"][:2] == results[name]["metrics"]["sw2"] and len(again["metrics"]["sw2"]) == 3
    assert again["settings"]["protocol"]["evaluations"] == 3 and again["curve"] == results[name]["curve"]


def test_a_sampler_of_other_settings_is_not_measured_as_this_run(results, plan):
    run = next(run for run in plan.grid.runs() if run.entry.name == "sft_pg")
    for other in (replace(plan, scale=0.5), replace(plan, protocol=replace(plan.protocol, curve_samples=400))):
        with pytest.raises(CheckpointError, match="was trained with"):
            measured_again(run, other, results["sft_pg"])


def test_a_sampler_saved_before_a_hyper_parameter_existed_is_measured(results, plan, tmp_path):
    run = next(run for run in plan.grid.runs() if run.entry.name == "sft_pg")
    state, header = load_object(sampler_path(plan.folder, run), "sampler")
    del header.config["hyperparameters"]["compile"]
    earlier = replace(plan, folder=tmp_path)
    sampler_path(tmp_path, run).parent.mkdir(parents=True)
    save_object(sampler_path(tmp_path, run), header, state)
    assert measured_again(run, earlier, results["sft_pg"]) == results["sft_pg"]


def test_all_saved_samplers_are_measured_again_with_one_call(results, plan, capsys):
    runs, record = plan.grid.runs(), load(plan.folder, [plan.grid])
    wanted = [run for run in runs if run.entry.name in ("untouched", "sft_pg")]
    assert measure_saved([*wanted, replace(wanted[1], seed=7)], plan, record, 1) == 0
    printed = capsys.readouterr().out
    assert "sft_pg swiss_roll_k1 seed 0: measured again" in printed and "1 of 3 runs have no finished" in printed
    again = load(plan.folder, [plan.grid]).entries
    assert again["sft_pg"] == [results["sft_pg"]]
    assert again["untouched"][0]["metrics"] == results["untouched"]["metrics"]


def test_finished_runs_are_not_repeated_and_others_are(results, plan):
    runs, record = plan.grid.runs(), load(plan.folder, [plan.grid])
    assert missing(runs, plan, record) == []
    more = replace(plan, grid=replace(plan.grid, num_seeds=2))
    assert {run.seed for run in missing(more.grid.runs(), more, record)} == {1}
    for other in (
        replace(plan, protocol=replace(plan.protocol, num_samples=400)),
        replace(plan, scale=0.5),
        replace(plan, grid=replace(plan.grid, tasks=(replace(TASK, critic_kwargs={"gamma": 0.3}),))),
    ):
        wanted = other.grid.runs()
        assert len(missing(wanted, other, record)) >= len(ALGORITHMS)


def test_a_failed_run_is_tried_again(results, plan, tmp_path):
    for name, result in results.items():
        failed = {"status": "failed"} if name == "ppo" else {}
        write_entry(tmp_path / f"{name}.jsonl", [{**result, **failed}])
    elsewhere = replace(plan, folder=tmp_path)
    found = missing(plan.grid.runs(), elsewhere, load(tmp_path, [plan.grid]))
    assert [run.entry.name for run in found] == ["ppo"]


def test_one_failed_run_is_recorded_and_loses_no_other(tmp_path, plan, capsys):
    broken = Entry("broken", "ppo", {"n_epochs": -1, "batch_size": 0})  # stable-baselines3 refuses it when it is made
    own = replace(plan, grid=grid_of(broken), folder=tmp_path)
    wanted = own.grid.selected(["untouched", "broken"], (), ())
    assert run_missing(wanted, own, load(tmp_path, [own.grid]), 1) == 1
    assert "untouched swiss_roll_k1 seed 0: finished" in capsys.readouterr().out
    found = read_folder(tmp_path)
    assert found["broken"][0]["status"] == "failed" and "Error" in found["broken"][0]["error"]
    assert found["untouched"][0]["status"] == "finished" and not list((tmp_path / WORKING).glob("*.json"))


def test_an_interrupted_grid_loses_only_the_runs_under_way(tmp_path, plan, monkeypatch):
    """A part that is written when the grid is killed is a line after the next call."""
    own = replace(plan, folder=tmp_path)
    run = own.grid.runs()[0]
    write_part(tmp_path, execute(run, own))
    merge_parts(tmp_path)
    assert run not in missing(own.grid.runs(), own, load(tmp_path, [own.grid]))

    def killed(jobs, processes, on_failure):
        write_part(tmp_path, execute(jobs[0].arguments[0], own))
        raise KeyboardInterrupt

    monkeypatch.setattr("benchmarks.comparison.runner.run_all", killed)
    with pytest.raises(KeyboardInterrupt):
        run_missing(own.grid.runs(), own, load(tmp_path, [own.grid]), 1)
    assert len(load(tmp_path, [own.grid]).runs_of(own.grid)) == 2


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("sft_pg", {"learning_rate": 1e30, "max_grad_norm": None}),
        ("a2c", {"learning_rate": 1e38, "episodes": 1}),
    ],
)
def test_a_diverged_run_is_a_result(algorithm, changes, plan):
    entry = Entry("wild", algorithm, changes)
    result = execute(Run(entry, TASK, 0), replace(plan, grid=grid_of(entry)))
    assert (result["status"], result["metrics"]) == ("diverged", None) and result["error"]
    assert result["curve"][0]["num_timesteps"] == 0 and result["timesteps"] < 2 * BUDGET


def test_samples_that_are_not_finite_at_the_end_are_a_divergence(plan, monkeypatch):
    def of_trained(self: Any, trained: Any, seed: int) -> Any:
        raise FloatingPointError("Samples are NaN.")

    monkeypatch.setattr("benchmarks.comparison.protocol.Protocol.of_trained", of_trained)
    entry = GRIDS["main"].entries[1]
    result = execute(Run(entry, TASK, 0), replace(plan, grid=grid_of(entry)))
    assert (result["status"], result["error"], result["metrics"]) == ("diverged", "Samples are NaN.", None)


def test_an_error_of_a_sound_sampler_is_no_divergence(plan, monkeypatch):
    monkeypatch.setattr("agents.runs.callbacks.SamplerEvaluation.act", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        execute(Run(Entry("sft_pg", "sft_pg"), TASK, 0), plan)


def test_settings_hold_everything_that_a_result_depends_on(plan):
    run = next(run for run in plan.grid.runs() if run.entry.name == "ppo")
    found = settings(run, plan)
    assert found == json.loads(json.dumps(found)) and found["protocol"] == asdict(plan.protocol)
    assert (found["algorithm"], found["critic"], found["num_envs"]) == ("ppo", "energy", NUM_ENVS)
    assert found["hyperparameters"] == find("ppo").settings(run.entry.changes_at(1))
    assert settings(run, replace(plan, scale=0.5))["total_timesteps"] == BUDGET // 2
    assert settings(plan.grid.runs()[0], plan)["total_timesteps"] == 0


def test_a_hyper_parameter_newer_than_a_result_counts_as_its_default(plan):
    run = next(run for run in plan.grid.runs() if run.entry.name == "sft_pg")
    wanted = settings(run, plan)
    older = {name: x for name, x in wanted["hyperparameters"].items() if name != "kl_coef"}
    assert same_settings({**wanted, "hyperparameters": older}, wanted)
    changed = {**wanted, "hyperparameters": {**wanted["hyperparameters"], "kl_coef": 0.5}}
    assert not same_settings({**wanted, "hyperparameters": older}, changed)
    gone = {**wanted["hyperparameters"], "no_more": 1}
    assert not same_settings({**wanted, "hyperparameters": gone}, wanted)
