"""The report says what is in the results, no more: numbers, gaps, mixed budgets, runs that ended badly."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.comparison.grid import Entry
from benchmarks.comparison.grids import GRIDS, TUNED
from benchmarks.comparison.report import PAGES, page_markers, write_page, write_report
from benchmarks.comparison.statistics import iqm_interval
from benchmarks.comparison.tables import short_table
from benchmarks.comparison.tuned import STAGES, study


@pytest.fixture
def report(results_in):
    """``report(folder, grid)``: the text of the report that is written beside the folder."""
    return lambda folder, grid: write_report(results_in(folder, grid), folder, folder.parent / f"{grid.name}.md")


def line_of(text: str, entry: str, section: str) -> str:
    part = text.split(f"## {section}")[1].split("\n## ")[0]
    return next(line for line in part.splitlines() if line.startswith(f"| `{entry}`"))


def test_scores_are_those_of_the_results(write, tiny, report):
    folder = write(sft_pg=0.2, ppo=0.4)
    text = report(folder, tiny)
    assert (folder.parent / "tiny.md").read_text() == text
    assert "0.75 [0.75, 0.75]" in line_of(text, "sft_pg", "Scores")
    assert "0.25 [0.25, 0.25]" in line_of(text, "ppo", "Scores") and "6 / 6 | 0 |" in line_of(text, "ppo", "Scores")
    assert "0.00 [0.00, 0.00] | 2 | -0.50 [-0.50, -0.50]" in line_of(text, "ppo", "Probability")
    assert "0.001 | 0.00 | 3.00 | 7 | 7" in line_of(text, "ppo", "Costs")
    assert "50.00 ± 0.00 | 10.00 ± 0.00" in line_of(text, "swiss_roll_k10", "Scale")
    assert "24 of 24 runs: 24 finished" in text and "incomplete" not in text
    assert "What is not claimed" in text and "a processor" in text


def test_an_interval_in_the_table_is_the_bootstrap_of_the_scores(write, tiny, alter, report):
    folder, values = write(sft_pg=0.2), (0.1, 0.2, 0.4)
    alter(
        folder, "sft_pg", lambda run: {**run, "metrics": {**run["metrics"], "sw2": [values[run["seed"]]]}}, "swiss_roll"
    )
    scores = [np.array([1.0, 0.75, 0.25]), np.array([0.75] * 3)]
    estimate, low, high = (float(x) for x in iqm_interval(scores, seed=0))
    assert f"{estimate:.2f} [{low:.2f}, {high:.2f}]" in line_of(report(folder, tiny), "sft_pg", "Scores")
    assert low < estimate


def test_the_report_says_what_was_tuned(write, tiny, report):
    entries = (TUNED["sft_pg"], Entry("ppo", "ppo", {"gamma": 0.123456}))
    text = report(write(sft_pg=0.2, ppo=0.4), replace(tiny, entries=entries))
    rows = [line for line in text.split("## Hyper-parameters")[1].splitlines() if line.startswith("| `sft_pg` |")]
    for row, stage, steps in zip(rows, STAGES, ("2", "10"), strict=True):
        found = study("sft_pg", stage)
        assert row.startswith(f"| `sft_pg` | {steps} | {found['preset_value']:.2f} -> {found['value']:.2f} |")
        assert f"learning_rate {found['changes']['learning_rate']:.2g}" in row
    assert line_of(text, "ppo", "Hyper-parameters") == "| `ppo` | 2, 10 | - | gamma 0.12 |"  # not the tuned one


def test_an_incomplete_grid_says_what_is_missing(write, tiny, alter, report):
    folder = write(sft_pg=0.2)
    alter(folder, "sft_pg", lambda run: None, "swiss_roll")
    text = report(folder, tiny)
    assert "**The grid is incomplete**; missing: `sft_pg` 3, `ppo` 6." in text
    assert "(1 of 2 tasks)" in line_of(text, "sft_pg", "Scores") and "3 / 6" in line_of(text, "sft_pg", "Scores")
    assert "| - | - | - |" in line_of(text, "ppo", "Scores")


def test_references_alone_make_a_report(write, tiny, report):
    assert "missing: `sft_pg` 6, `ppo` 6" in report(write(), tiny)


def test_runs_that_ended_badly_are_listed(write, tiny, alter, report):
    folder = write(sft_pg=0.2, ppo=None)
    alter(folder, "ppo", {"error": "a weight | is\nNaN"}, "gaussians8", 1)
    alter(folder, "sft_pg", {"status": "failed", "error": "OSError: disk"}, "swiss_roll", 0)
    text = report(folder, tiny)
    assert "-1.00 [-1.00, -1.00]" in line_of(text, "ppo", "Scores") and "| 6 |" in line_of(text, "ppo", "Scores")
    assert "| `ppo` | `gaussians8_k2` | 1 | diverged | a weight / is NaN |" in text
    assert "| `sft_pg` | `swiss_roll_k10` | 0 | failed | OSError: disk |" in text
    assert "17 finished, 6 diverged, 1 failed, 0 missing" in text


def test_unequal_budgets_and_mixed_settings_are_announced(write, tiny, alter, report):
    folder = write(sft_pg=0.2)
    alter(folder, "sft_pg", {"settings": {"total_timesteps": 5_000, "num_envs": 7}}, "swiss_roll", 0)
    text = report(folder, tiny)
    assert "Budgets are not equal: 1,000 at K = 2, 1,000 and 5,000 at K = 10.**" in text
    assert "Made with more than one setting: `sft_pg`" in text


def test_settings_may_differ_between_few_and_many_steps_alone(write, tiny, alter, report):
    folder, other = write(sft_pg=0.2, ppo=0.4), {"total_timesteps": 1_000, "hyperparameters": {"n_critic": 7}}
    for name in ("sft_pg", "ppo"):
        alter(folder, name, {"settings": other}, "swiss_roll")
    grid = replace(tiny, entries=(Entry("sft_pg", "sft_pg", study="sft_pg"), Entry("ppo", "ppo")))
    text = report(folder, grid)
    assert "Made with more than one setting: `ppo`." in text
    assert "| 6 / 6 | 0 |" in line_of(text, "sft_pg", "Scores")
    alter(folder, "sft_pg", {"settings": {"total_timesteps": 1_000}}, "swiss_roll", 1)
    assert "Made with more than one setting: `sft_pg`, `ppo`." in report(folder, grid)


def test_budgets_may_differ_between_numbers_of_steps_alone(write, tiny, alter, report):
    folder = write(sft_pg=0.2)
    longer = {"total_timesteps": 5_000}
    alter(folder, "sft_pg", lambda run: {**run, "settings": {**run["settings"], **longer}}, "swiss_roll")
    text = report(folder, tiny)
    assert "the same budget of environment steps: 1,000 at K = 2, 5,000 at K = 10." in text
    assert "more than one setting" not in text


def test_what_the_own_critic_does_not_see_shows_beside_it(write, tiny, alter, report):
    folder = write(sft_pg=0.1)
    seen = {"auc_boosting": [0.9, 0.8], "auc_neighbours": [0.75], "refitted_ipm": [1.25]}
    alter(folder, "sft_pg", lambda run: {**run, "training_ipm": -0.01, "metrics": {**run["metrics"], **seen}})
    text = report(folder, tiny)
    assert "| 0.850 | 0.750 | 1.250 | -0.0100 |" in line_of(text, "sft_pg", "Other metrics")
    assert "first edition" not in text


def test_results_of_the_first_edition_have_dashes(write, tiny, alter, report):
    def without(run):
        eyes = ("auc_boosting", "auc_neighbours", "refitted_ipm")
        return {**run, "metrics": {name: x for name, x in run["metrics"].items() if name not in eyes}}

    folder = write(sft_pg=0.1, ppo=0.2)
    for entry in ("floor", "untouched", "sft_pg", "ppo"):
        alter(folder, entry, without)
    text = report(folder, tiny)
    assert "| - | - | - | +0.2500 |" in line_of(text, "sft_pg", "Other metrics")
    assert "first edition, not measured" in text


def test_a_page_gets_the_tables_between_its_markers(write, tiny, tmp_path, results_in):
    results = results_in(write(sft_pg=0.2, ppo=0.4), tiny)
    page, (start, end) = tmp_path / "PAGE.md", page_markers("tiny")
    other = "\n".join(page_markers("another"))
    page.write_text(f"before\n{start}\nold\n{end}\n{other}\n")
    for _ in range(2):  # writing it again changes nothing
        write_page(results, page)
        text = page.read_text()
        assert text.startswith(f"before\n{start}\n\n{short_table(results)}\n\n24 of 24 runs")
        assert text.endswith(f"\n\n{end}\n{other}\n") and "\nold\n" not in text and "refitted IPM" in text
    page.write_text(start)
    with pytest.raises(ValueError, match="must hold the lines"):
        write_page(results, page)


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_has_a_page_with_markers(name):
    text = PAGES[name].read_text()
    assert [text.count(marker) for marker in page_markers(name)] == [1, 1]


def test_no_results_is_an_error_that_says_what_to_run(tmp_path, tiny, report):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.compare --grid tiny"):
        report(tmp_path / "tiny", tiny)
