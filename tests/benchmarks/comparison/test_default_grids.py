"""The grids of the defaults: every set at every K, equal trajectories, changes of one thing at a time."""

from agents.algorithms.presets import PRESETS, preset
from benchmarks.comparison.default_grids import ABLATION, DEFAULTS, STEPS, TRAJECTORIES, UNTUNED_SETS
from benchmarks.comparison.grids import TEN_STEP_SETS


def test_the_defaults_are_run_as_they_are_on_every_set_at_every_k() -> None:
    assert all(entry.changes_at(k) == {} for entry in DEFAULTS.entries for k in STEPS)
    wanted = {(name, k) for name in (*TEN_STEP_SETS, *UNTUNED_SETS) for k in STEPS}
    assert {(task.dataset, task.num_steps) for task in DEFAULTS.tasks} == wanted
    assert DEFAULTS.num_seeds == 5


def test_every_run_has_the_same_number_of_trajectories() -> None:
    for grid in (DEFAULTS, ABLATION):
        assert all(grid.budget(run) == TRAJECTORIES * run.task.num_steps for run in grid.runs([0]) if run.entry.trains)


def test_an_ablation_changes_one_part_and_no_task_of_it_is_claimed() -> None:
    config = preset("sft_pg")
    for entry in ABLATION.entries[1:]:
        changed = preset("sft_pg", **entry.changes_at(3))
        assert changed != config, entry.name
    same = {(t.dataset, t.num_steps) for t in ABLATION.tasks} & {(t.dataset, t.num_steps) for t in DEFAULTS.tasks}
    assert {k for _, k in same} == {1}  # there is no other K beside it
    assert not {t.dataset for t in ABLATION.tasks} & set(UNTUNED_SETS)
    one = preset("sft_pg", **next(e for e in ABLATION.entries if e.name == "one_step_size").changes_at(1))
    assert one.at_steps(1)[1] == one.at_steps(8)[1] == PRESETS["sft_pg"].config.at_steps(10)[1]
