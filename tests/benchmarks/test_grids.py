"""The grids are sound before anything is run: names, tasks, settings, order."""

import json
from dataclasses import fields

import pytest

from agents.config import AgentConfig
from benchmarks.grids import GRIDS, REFERENCES, Entry, Grid, Run, Task, selected
from benchmarks.training import settings
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


def test_the_controlled_grid_differs_in_the_gradient_alone():
    entries = GRIDS["controlled"].entries
    shared = [{field.name: settings(entry)[field.name] for field in fields(AgentConfig)} for entry in entries]
    assert all(config == shared[0] for config in shared) and {entry.critic for entry in entries} == {"energy"}
    assert shared[0] != {key: settings(Entry("p", "sft_pg_paper"))[key] for key in shared[0]}


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
            Grid("bad", "Bad", entries, (task,), 1, baseline=baseline)


def test_unknown_names_list_what_there_is():
    with pytest.raises(ValueError, match="asks for the algorithm 'sarsa'"):
        Entry("new", "sarsa")
    with pytest.raises(ValueError, match=r"Unknown names \['ppo2'\].*'ppo'"):
        selected(GRIDS["main"].entries, ["ppo2"])
    assert selected(GRIDS["main"].entries, []) == GRIDS["main"].entries


def test_paths_tell_runs_apart():
    run = Run(Entry("a", "ppo"), Task("moons", 10), 3)
    assert run.path == "a/moons_k10_seed3.json"
