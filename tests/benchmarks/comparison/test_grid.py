"""Entries, grids and runs as data: settings by number of steps, names, selections."""

from dataclasses import replace

import pytest

from agents.core.task import Task
from benchmarks.comparison.grid import MANY_STEPS, Entry, Grid, Run, chosen, task_name, task_record
from benchmarks.comparison.tuned import FEW, MANY, tuned

TASKS = (Task("moons", num_steps=5), Task("moons", num_steps=10))


def test_an_entry_has_the_settings_of_the_stage_that_its_number_of_steps_belongs_to():
    entry = Entry("a", "ppo", {"gamma": 0.5}, study="ppo")
    for num_steps, stage in ((1, FEW), (MANY_STEPS - 1, FEW), (MANY_STEPS, MANY), (20, MANY)):
        assert entry.stage_at(num_steps) == stage
        assert entry.changes_at(num_steps) == {**tuned("ppo", stage), "gamma": 0.5}
    assert replace(entry, first_stage=True).changes_at(20) == {**tuned("ppo", FEW), "gamma": 0.5}
    assert replace(entry, study="").changes_at(20) == {"gamma": 0.5}
    slow = replace(entry, divided={"learning_rate": 10}).changes_at(1)
    assert slow["learning_rate"] == tuned("ppo", FEW)["learning_rate"] / 10
    assert list(slow) == list(entry.changes_at(1))


def test_an_entry_may_have_tasks_and_a_budget_of_its_own():
    own = Entry("own", "ppo", tasks=TASKS[:1], total_timesteps=7)
    grid = Grid("a", "A", (Entry("sft_pg", "sft_pg"), own), TASKS, {5: 1, 10: 2}, 1)
    budgets = {(run.entry.name, run.task.num_steps): grid.budget(run) for run in grid.runs()}
    trained = {("sft_pg", 5): 1, ("sft_pg", 10): 2, ("own", 5): 7}
    assert budgets == {**trained, **{(name, k): 0 for name in ("floor", "untouched") for k in (5, 10)}}


def test_a_grid_refuses_names_that_collide_and_a_baseline_it_has_not():
    entry = Entry("sft_pg", "sft_pg")
    for entries, baseline in (((entry, entry), "sft_pg"), ((Entry("floor", "ppo"),), "floor"), ((entry,), "ppo")):
        with pytest.raises(ValueError, match="must be unique, and the baseline"):
            Grid("bad", "Bad", entries, TASKS, {5: 1, 10: 1}, baseline=baseline)


def test_unknown_names_list_what_there_is(tiny):
    for selection, sentence in (
        ((["ppo2"], (), ()), r"Unknown entries \['ppo2'\]. Choose from .*'ppo'"),
        (
            ((), ["swiss_roll"], ()),
            r"Unknown tasks \['swiss_roll'\]. Choose from \['swiss_roll_k10', 'gaussians8_k2'\]",
        ),
        (((), (), [2, 7]), r"Unknown seeds \[7\]. Choose from \[0, 1, 2\]"),
    ):
        with pytest.raises(ValueError, match=sentence):
            tiny.selected(*selection)
    assert tiny.selected((), (), ()) == tiny.runs()
    assert chosen("letters", ["a", "b", "c"], ["c", "a"]) == ["a", "c"]


def test_a_selection_keeps_the_order_of_the_grid(tiny):
    found = tiny.selected(["ppo", "floor"], ["gaussians8_k2"], [1, 0])
    assert [(run.seed, run.entry.name, task_name(run.task)) for run in found] == [
        (seed, name, "gaussians8_k2") for seed in (0, 1) for name in ("floor", "ppo")
    ]


def test_labels_and_records_tell_tasks_apart():
    task = Task("moons", num_steps=10, sampler="ddim", denoiser="net.safetensors")
    assert Run(Entry("a", "ppo"), task, 3).label == "a moons_k10_ddim_net.safetensors seed 3"
    assert task_record(task) == {
        "dataset": "moons",
        "num_steps": 10,
        "sampler": "ddim",
        "denoiser": "net.safetensors",
    }
    assert task_record(TASKS[0]) == {"dataset": "moons", "num_steps": 5}
