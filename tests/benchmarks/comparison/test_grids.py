"""The grids are sound before anything is run: names, tasks, settings, order."""

import json
from dataclasses import replace

import pytest

from benchmarks.comparison.grids import GRIDS, MANY_STEPS, REFERENCES, Entry, Grid, Run, Task, selected
from benchmarks.comparison.training import settings
from benchmarks.comparison.tuned import FEW, MANY, STAGES, STUDIES, study, tuned
from diffusion_env.denoisers.loading import shipped_weights

EVERY = [(grid.name, entry, k) for grid in GRIDS.values() for entry in grid.entries for k in (1, MANY_STEPS)]
SHARED = ("n_critic", "critic_learning_rate", "lr_schedule", "max_grad_norm", "ema_decay", "kl_coef")


@pytest.mark.parametrize(("grid", "entry", "num_steps"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_entry_has_valid_settings(grid, entry, num_steps):
    run = entry.at(num_steps)
    changed = settings(run)
    assert {key: changed[key] for key in run.changes} == dict(run.changes)
    assert json.loads(json.dumps(changed)).keys() == changed.keys()


def test_every_task_has_a_pretrained_network():
    assert all(shipped_weights(task.dataset).is_file() for grid in GRIDS.values() for task in grid.tasks)


def test_the_main_grid_is_the_promised_one():
    main = GRIDS["main"]
    assert (len(main.entries), len(main.tasks)) == (13, 14) and main.num_seeds >= 5
    assert sorted({task.num_steps for task in main.tasks}) == [1, 2, 5, 10, 20]
    assert sum(task.num_steps == 10 for task in main.tasks) == 6


@pytest.mark.parametrize(("stage", "num_steps"), [(FEW, 1), (MANY, MANY_STEPS)])
def test_the_controlled_grid_holds_critic_schedule_and_tuning(stage, num_steps):
    entries = [entry.at(num_steps) for entry in GRIDS["controlled"].entries]
    configs, studies = [settings(entry) for entry in entries], [study(entry.name, stage) for entry in entries]
    for name in SHARED:
        assert len({config[name] for config in configs}) == 1, name
    assert {entry.critic for entry in entries} == {"energy"}
    assert len({found["num_trials"] for found in studies}) == 1
    steps = {entry.name: config.get("backprop_steps") for entry, config in zip(entries, configs, strict=True)}
    assert steps == {"sft_pg": None, "dxdp": None, "pathwise_whole": None, "pathwise": 2}


def test_an_entry_has_its_own_settings_at_many_steps():
    entry = Entry("a", "ppo", {"gamma": 0.5}, {"gamma": 0.7})
    assert [entry.at(k).changes["gamma"] for k in (1, MANY_STEPS - 1, MANY_STEPS, 20)] == [0.5, 0.5, 0.7, 0.7]
    assert replace(entry, many_steps=None).at(20).changes == {"gamma": 0.5}
    grid = Grid("a", "A", (entry,), (Task("moons", 5), Task("moons", 10)), {5: 1, 10: 1}, 1, baseline="a")
    assert [run.entry.changes.get("gamma") for run in grid.runs()][-2:] == [0.5, 0.7]


@pytest.mark.parametrize(("stage", "name"), [(stage, f.stem) for stage in STAGES for f in STUDIES.glob(f"{stage}/*")])
def test_tuning_is_equal_and_on_a_task_of_no_table(stage, name):
    found, reference = study(name, stage), study("sft_pg", stage)
    kept = {key: value for key, value in found["problem"].items() if key not in ("algo", "held")}
    assert kept == {key: reference["problem"][key] for key in kept}
    assert (found["num_trials"], found["seed"]) == (reference["num_trials"], reference["seed"])
    tasks = {Task(dataset, k) for dataset in found["problem"]["datasets"] for k in found["problem"]["num_steps"]}
    assert not tasks & {task for grid in GRIDS.values() for task in grid.tasks}


def test_entries_are_the_best_trials():
    for entry in GRIDS["main"].entries:
        for stage, num_steps in zip(STAGES, (1, MANY_STEPS), strict=True):
            found = study(entry.name, stage)
            assert found["problem"]["algo"] == entry.algorithm
            assert entry.at(num_steps).changes == found["problem"]["held"] | found["changes"]
    assert tuned("sft_pg", min_std=7.0) == {**tuned("sft_pg", FEW), "min_std": 7.0} != tuned("sft_pg", MANY)
    with pytest.raises(FileNotFoundError, match=r"No study 'sarsa'.*'sft_pg'"):
        tuned("sarsa")


COMMON = {"n_critic", "episodes", "train_freq", "ema_decay", "learning_rate"}
"""What the second stage chose anew for all; each has one hyper-parameter more of its own."""


@pytest.mark.parametrize("name", [path.stem for path in STUDIES.glob(f"{MANY}/*")])
def test_the_second_stage_goes_on_from_the_first(name):
    first, second = tuned(name, FEW), tuned(name, MANY)
    assert second.keys() == first.keys() and len(study(name, MANY)["changes"]) == 2
    own = {"trpo": "target_kl", "sac": "gradient_steps", "td3": "gradient_steps"}.get(name, "min_std")
    assert {key for key in first if first[key] != second[key]} <= COMMON | {own}


def test_a_run_of_one_name_is_the_same_in_every_grid():
    known: dict[str, tuple[Entry, int]] = {}
    for grid in GRIDS.values():
        for run in grid.runs([0]):
            made = (run.entry, grid.total_timesteps[run.task.num_steps] * (run.entry.name not in REFERENCES))
            assert known.setdefault(run.path, made) == made


def test_runs_go_seed_by_seed_with_the_references_first():
    runs = GRIDS["main"].runs()
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert [run.entry.name for run in runs[:28]] == [name for name in REFERENCES for _ in range(14)]
    assert len(set(runs)) == len({run.path for run in runs}) == len(runs) == 5 * 15 * 14
    assert {run.seed for run in GRIDS["main"].runs([3])} == {3}


def test_a_grid_refuses_names_that_collide_and_a_baseline_it_has_not():
    entry, task = Entry("sft_pg", "sft_pg"), Task("swiss_roll", 1)
    for entries, baseline in (((entry, entry), "sft_pg"), ((Entry("floor", "ppo"),), "floor"), ((entry,), "ppo")):
        with pytest.raises(ValueError, match="unique and none of"):
            Grid("bad", "Bad", entries, (task,), {1: 1}, baseline=baseline)


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match="asks for the algorithm 'sarsa'"):
        Entry("new", "sarsa")
    with pytest.raises(ValueError, match=r"Unknown names \['ppo2'\].*'ppo'"):
        selected(GRIDS["main"].entries, ["ppo2"])
    assert selected(GRIDS["main"].entries, []) == GRIDS["main"].entries


def test_paths_tell_runs_apart():
    run = Run(Entry("a", "ppo"), Task("moons", 10), 3)
    assert run.path == "a/moons_k10_seed3.json"
