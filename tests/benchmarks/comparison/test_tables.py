"""Cells of the tables against the scores they sum up."""

from dataclasses import replace

import pytest

from benchmarks.comparison.grid import Entry
from benchmarks.comparison.tables import (
    aggregate_table,
    below_cell,
    groups,
    improvement_table,
    iqm_cell,
    mean_cell,
    number,
    settings_table,
    student_cell,
)
from benchmarks.comparison.tuned import FEW, tuned


@pytest.fixture
def spread(write, tiny, alter, results_in):
    """The entry sft_pg with the scores -0.5, 0.75 and 1 on the first task and 0.75 on the second."""
    folder, values = write(sft_pg=0.2, ppo=None), (0.7, 0.2, 0.1)
    new = lambda run: {**run, "metrics": {**run["metrics"], "sw2": [values[run["seed"]]]}}  # noqa: E731
    alter(folder, "sft_pg", new, "swiss_roll")
    return results_in(folder, tiny)


def test_mean_and_share_below_zero_count_every_run(spread):
    assert mean_cell(spread, "sft_pg") == f"{(-0.5 + 0.75 + 1 + 3 * 0.75) / 6:.2f}"
    assert below_cell(spread, "sft_pg") == "17%"
    assert (mean_cell(spread, "ppo"), below_cell(spread, "ppo")) == ("-1.00", "100%")  # all diverged
    assert "| 0.58 | 17% | 0 / 6 | 6 / 6 | 0 |" in aggregate_table(spread)


def test_an_entry_without_a_run_has_dashes(write, tiny, results_in):
    results = results_in(write(sft_pg=0.2), tiny)
    assert [cell(results, "ppo") for cell in (mean_cell, below_cell)] == ["-", "-"]
    assert iqm_cell(results, "ppo", tiny.tasks) == "-" and student_cell(None) == "-" and number(None, "{}") == "-"


def test_tasks_are_grouped_by_steps(spread, tiny):
    assert groups(spread) == {"all": tiny.tasks, "K = 2": (tiny.tasks[1],), "K = 10": (tiny.tasks[0],)}


def test_the_chance_of_an_improvement_counts_the_shared_tasks(spread):
    assert "| `ppo` | 0.00 [0.00, 0.00] | 2 |" in improvement_table(spread)


def test_settings_are_listed_in_the_order_of_the_study(spread, tiny):
    entry = Entry("sft_pg", "sft_pg", {"gamma": 0.123456}, study="sft_pg", first_stage=True)
    grid = replace(tiny, entries=(entry, tiny.entries[1]))
    line = settings_table(replace(spread, grid=grid)).splitlines()[2]
    names = [cell.split()[0] for cell in line.split("|")[4].strip().split(", ")]
    assert names == [*tuned("sft_pg", FEW), "gamma"] and "gamma 0.12" in line
    assert "| 2, 10 | - |" in line  # with the change it is no best trial any more
