"""A grid on a trial budget, run for real: complete results, equal budgets, resuming, failures, divergence."""

import json
from dataclasses import replace

import pytest

from agents.algorithms.presets import PRESETS
from agents.runs.callbacks import CURVE_SEED
from benchmarks import compare, toy
from benchmarks.comparison.grids import GRIDS, NUM_ENVS, REFERENCES, TUNED, Entry, Run, Task
from benchmarks.comparison.measuring import ON_EVERY_SET, ON_FIRST_SET
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.training import settings, train
from diffusion_env.checkpoints import write_json

SMALL = Protocol(2, num_samples=300, w1_samples=100, critic_steps=3, curve_points=3, curve_samples=300)
BUDGET = 3_840
TASK = Task("swiss_roll", 1)
ALGORITHMS = ("sft_pg", "pathwise", "ppo", "td3")


def trial(folder, **changes):
    scale = BUDGET / GRIDS["main"].total_timesteps[TASK.num_steps]
    config = compare.CompareConfig(
        "main", (*REFERENCES, *ALGORITHMS), (TASK.name,), (0,), 1, scale, SMALL, results=folder
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return trial(tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def results(config):
    for run in config.wanted():
        compare.execute_and_save(run, config)
    return {run.entry.name: json.loads((config.folder / run.path).read_text()) for run in config.wanted()}


def iteration(entry: str) -> int:
    """Environment steps between two looks at the budget."""
    own = settings(TUNED[entry])
    if entry in PRESETS:
        return NUM_ENVS * TASK.num_steps * own["n_critic"]
    return NUM_ENVS * (own["train_freq"] if "train_freq" in own else TASK.num_steps * own["episodes"])


def test_every_run_is_complete(results):
    assert list(results) == [*REFERENCES, *ALGORITHMS]
    for name, result in results.items():
        assert result["status"] == "finished" and result["seed"] == 0 and result["task"]["num_steps"] == 1
        assert all(len(result["metrics"][metric]) == SMALL.evaluations for metric in ON_EVERY_SET)
        assert all(len(result["metrics"][metric]) == 1 for metric in ON_FIRST_SET)
        assert result["versions"]["torch"] and result["commit"] and result["peak_resident_mib"] > 0
        assert ("curve_sw2" in result) == (name in REFERENCES)


def test_every_entry_has_the_same_budget(results):
    for name in ALGORITHMS:
        assert results[name]["settings"]["total_timesteps"] == BUDGET
        assert 0 <= results[name]["timesteps"] - BUDGET < iteration(name)


def test_costs_leave_evaluation_out_and_curves_span_the_run(results):
    for name in ALGORITHMS:
        result = results[name]
        curve = result["curve"]
        assert curve[0]["num_timesteps"] == 0 and curve[-1]["num_timesteps"] == result["timesteps"]
        assert 3 <= len(curve) <= SMALL.curve_points + 2
        assert result["train_cpu_seconds"] > 0 and isinstance(result["training_ipm"], float)
    # Each state is evaluated once in the rollout and once in the one update; measuring adds nothing.
    assert results["sft_pg"]["network_evaluations"] == 2 * results["sft_pg"]["timesteps"]


def test_entries_share_their_evaluation_sets_and_seeds_do_not():
    ours = [s for seed in range(5) for config in Protocol().final(seed) for s in config.seeds]
    assert len(set(ours)) == len(ours) == 5 * Protocol().evaluations
    theirs = [toy.protocol(toy.TOY[0], seed, toy.ToyConfig())["metrics"].seeds for seed in range(5)]
    assert not set(ours) & {CURVE_SEED, *(s for seeds in theirs for s in seeds)}


def test_a_run_is_a_function_of_its_seed(results, config):
    run = next(run for run in config.wanted() if run.entry.name == "sft_pg")
    again = compare.execute(run, config)
    assert again["metrics"] == results["sft_pg"]["metrics"] and again["curve"] == results["sft_pg"]["curve"]
    other = compare.execute(replace(run, seed=1), config)
    assert other["metrics"] != again["metrics"]


def jobs_of(config, monkeypatch):
    """The runs that would be made."""
    monkeypatch.setattr(compare, "run_all", lambda jobs, processes, on_failure: [job.arguments[0] for job in jobs])
    return compare.run_missing(config)


def test_finished_runs_are_not_repeated_and_others_are(results, config, monkeypatch):
    assert jobs_of(config, monkeypatch) == []
    more = jobs_of(replace(config, seeds=(0, 1)), monkeypatch)
    assert {run.seed for run in more} == {1} and len(more) == len(results)
    other = jobs_of(replace(config, protocol=replace(SMALL, num_samples=400)), monkeypatch)
    assert len(other) == len(results)


def test_a_failed_run_is_tried_again(results, config, monkeypatch, tmp_path):
    elsewhere = replace(config, results=tmp_path)
    for run in config.wanted():
        write_json(elsewhere.folder / run.path, results[run.entry.name])
    failed = config.wanted()[-1]
    write_json(elsewhere.folder / failed.path, {**results[failed.entry.name], "status": "failed"})
    assert jobs_of(elsewhere, monkeypatch) == [failed]


def test_one_failed_run_is_recorded_and_loses_no_other(tmp_path, monkeypatch):
    broken = Entry("broken", "ppo", {"n_steps": "many"})
    monkeypatch.setitem(GRIDS, "main", replace(GRIDS["main"], entries=(broken, *GRIDS["main"].entries)))
    config = trial(tmp_path, algorithms=("broken", "untouched"), report_only=False)
    assert compare.main(config) == 1
    failure = json.loads((config.folder / f"broken/{TASK.name}_seed0.json").read_text())
    assert failure["status"] == "failed" and "TypeError" in failure["error"]
    assert json.loads((config.folder / f"untouched/{TASK.name}_seed0.json").read_text())["status"] == "finished"
    report = (config.results / f"main{config.suffix}.md").read_text()
    assert "1 failed" in report and "TypeError" in report and "incomplete" in report


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("sft_pg", {"learning_rate": 1e30, "max_grad_norm": None}),
        ("a2c", {"learning_rate": 1e38, "n_steps": 1}),
    ],
)
def test_a_diverged_run_is_a_result(algorithm, changes, config):
    result = compare.execute(Run(Entry("wild", algorithm, changes), TASK, 0), config)
    assert (result["status"], result["metrics"]) == ("diverged", None) and result["error"]
    assert result["curve"][0]["num_timesteps"] == 0 and result["timesteps"] < 2 * BUDGET


def test_an_error_of_a_sound_sampler_is_no_divergence(monkeypatch):
    with pytest.raises(TypeError):
        train(Entry("broken", "ppo", {"n_steps": "many"}), TASK, 0, BUDGET, SMALL)
    monkeypatch.setattr("agents.core.ipm_agent.IPMAgent.on_step", lambda self, ended: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(Entry("sft_pg", "sft_pg"), TASK, 0, BUDGET, SMALL)


def test_other_budgets_have_folders_of_their_own(tmp_path):
    full, half = trial(tmp_path, scale=1.0), trial(tmp_path, scale=0.5)
    assert full.folder.name == "runs" and half.folder.name == "runs_x0.5"
    run = full.wanted()[-1]
    assert full.budget(run) == GRIDS["main"].total_timesteps[1] == 2 * half.budget(run)
    assert full.budget(full.wanted()[0]) == 0


def test_one_command_rebuilds_the_report_of_every_grid(results, config, monkeypatch):
    for name in ("ten_steps", "longer"):  # of which the trial has no result
        monkeypatch.delitem(GRIDS, name)
    everything = replace(config, grid="all", algorithms=(), tasks=(), seeds=(), report_only=True)
    before = {path: path.read_bytes() for path in config.folder.rglob("*.json")}
    assert compare.main(everything) == 0
    assert {path.stem for path in config.results.glob("*.md")} == {f"{name}{config.suffix}" for name in GRIDS}
    assert {path: path.read_bytes() for path in config.folder.rglob("*.json")} == before


def test_unknown_names_list_what_there_is(tmp_path):
    for changes in ({"grid": "mian"}, {"tasks": ("swiss_roll",)}, {"algorithms": ("sarsa",)}):
        with pytest.raises(ValueError, match=r"Unknown names .* Choose from"):
            trial(tmp_path, **changes).wanted()
