"""Results of a folder: those of a grid in its order, and a sentence for a run that no grid has."""

from dataclasses import replace

import pytest

from agents.core.task import Task
from benchmarks.comparison.grid import Entry
from benchmarks.comparison.record import load


def test_the_runs_of_a_grid_come_in_its_order(write, tiny, alter):
    folder = write(ppo=0.4, sft_pg=0.2)
    alter(folder, "ppo", lambda result: None, seed=1)
    found = load(folder, [tiny]).runs_of(tiny)
    assert list(found) == [run for run in tiny.runs() if (run.entry.name, run.seed) != ("ppo", 1)]
    assert all(result["entry"] == run.entry.name and result["seed"] == run.seed for run, result in found.items())


def test_a_run_that_no_grid_has_is_refused_with_a_sentence(write, tiny, alter):
    folder = write(ppo=0.4, sft_pg=0.2)
    without = replace(tiny, entries=tiny.entries[:1])
    with pytest.raises(ValueError, match=r"ppo\.jsonl holds 6 runs that none of the grids \['tiny'\] has"):
        load(folder, [without])
    other = replace(tiny, name="other", entries=(Entry("ppo", "ppo"),), baseline="ppo")
    assert len(load(folder, [without, other]).runs_of(other)) == 6 + 12
    alter(folder, "sft_pg", {"seed": 7}, "swiss_roll", 2)
    with pytest.raises(ValueError, match=r"sft_pg\.jsonl holds 1 runs .* with seed 7\. Put the entry"):
        load(folder, [tiny])
    write(sft_pg=0.2)
    with pytest.raises(ValueError, match="'num_steps': 2"):
        load(folder, [replace(tiny, tasks=(tiny.tasks[0], Task("moons", num_steps=10)))])


def test_an_empty_folder_holds_no_run(tmp_path, tiny):
    assert load(tmp_path / "none", [tiny]).runs_of(tiny) == {}
