"""The grids are sound before anything is run: names, tasks, settings, order."""

import json

import pytest

from benchmarks.grids import GRIDS, REFERENCES, Entry, Grid, Run, Task, selected
from benchmarks.training import settings
from benchmarks.tuned import STUDIES, study, tuned
from diffusion_env.denoisers import shipped_weights

EVERY = [(grid.name, entry) for grid in GRIDS.values() for entry in grid.entries]


@pytest.mark.parametrize(("grid", "entry"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_entry_has_valid_settings(grid, entry):
    changed = settings(entry)
    assert {key: changed[key] for key in entry.changes} == dict(entry.changes)
    assert json.loads(json.dumps(changed)).keys() == changed.keys()


def test_every_task_has_a_pretrained_network():
    assert all(shipped_weights(task.dataset).is_file() for grid in GRIDS.values() for task in grid.tasks)


def test_the_main_grid_is_the_promised_one():
    main = GRIDS["main"]
    assert (len(main.entries), len(main.tasks)) == (13, 14) and main.num_seeds >= 5
    assert sorted({task.num_steps for task in main.tasks}) == [1, 2, 5, 10, 20]
    assert sum(task.num_steps == 10 for task in main.tasks) == 6


def test_the_controlled_grid_holds_critic_schedule_and_tuning():
    entries = GRIDS["controlled"].entries
    configs, studies = [settings(entry) for entry in entries], [study(entry.name) for entry in entries]
    for name in ("n_critic", "critic_learning_rate", "lr_schedule", "max_grad_norm", "ema_decay", "kl_coef"):
        assert len({config[name] for config in configs}) == 1, name
    assert {entry.critic for entry in entries} == {"energy"}
    assert len({found["num_trials"] for found in studies}) == 1
    steps = {entry.name: config.get("backprop_steps") for entry, config in zip(entries, configs, strict=True)}
    assert steps == {"sft_pg": None, "dxdp": None, "pathwise_whole": None, "pathwise": 2}


@pytest.mark.parametrize("name", [path.stem for path in STUDIES.glob("*.json")])
def test_tuning_is_equal_and_on_a_task_of_no_table(name):
    found, reference = study(name), study("sft_pg")
    kept = {key: value for key, value in found["problem"].items() if key not in ("algo", "held")}
    assert kept == {key: reference["problem"][key] for key in kept}
    assert (found["num_trials"], found["seed"]) == (reference["num_trials"], reference["seed"])
    tasks = {Task(name, k) for name in found["problem"]["datasets"] for k in found["problem"]["num_steps"]}
    assert not tasks & {task for grid in GRIDS.values() for task in grid.tasks}


def test_entries_are_the_best_trials():
    for entry in GRIDS["main"].entries:
        found = study(entry.name)
        assert found["problem"]["algo"] == entry.algorithm
        assert entry.changes == found["problem"]["held"] | found["changes"]
    assert tuned("sft_pg", min_std=7.0) == {**tuned("sft_pg"), "min_std": 7.0}
    with pytest.raises(FileNotFoundError, match=r"No study 'sarsa'.*'sft_pg'"):
        tuned("sarsa")


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
