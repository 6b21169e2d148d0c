"""RESULTS.md from made-up runs: intervals, ratios to the floor, verdicts."""

import pytest

from benchmarks.comparison.toy_grid import TOY
from benchmarks.comparison.toy_report import (
    EYES,
    README_END,
    README_START,
    compared,
    prior,
    steps,
    values,
    verdict,
    write_readme,
    write_report,
)

SW2 = {"floor": 0.01, "ddpm_10": 0.04, "sft_pg_short": 0.011, "published_ddpm_1000": 0.02}
ENTRIES = {entry.name: entry for entry in TOY.entries}


def made_up(name, seed, total_timesteps, eyes=True):
    x = SW2[name] * (1 + 0.01 * seed)
    measured = {"per_seed": {key: [x, x] for key in ("sw2", "w1", "off_support", *(EYES if eyes else ()))}}
    large = {} if name == "published_ddpm_1000" else {"large_metrics": measured}
    costs = {"train_cpu_seconds": 5.0, "timesteps": 1_000_000} if ENTRIES[name].trains else {}
    made = {"versions": {"torch": "2"}, "machine": {"processor": "a", "cores": 2}, "commit": "0"}
    return {
        **{
            "entry": name,
            "seed": seed,
            "status": "finished",
            "settings": {"total_timesteps": total_timesteps},
            "metrics": measured,
        },
        **{**large, **costs, **made},
    }


@pytest.fixture
def runs():
    return {name: [made_up(name, seed, ENTRIES[name].total_timesteps or 0) for seed in (0, 1)] for name in sorted(SW2)}


def line(text, name):
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))


def test_the_report_holds_the_numbers_of_the_runs(runs, tmp_path):
    text = write_report(runs, TOY, tmp_path / "toy", tmp_path / "RESULTS.md")
    assert (tmp_path / "RESULTS.md").read_text() == text
    assert line(text, "ddpm_10").startswith("| `ddpm_10` | 10 | calibrated | - | 2 | 4.02 ± 0.25 | 4.00 |")
    assert line(text, "floor").startswith("| `floor` | - | calibrated | 0.69 |")
    assert "| 1000 | published | 1.78 | 2 | 2.01 ± 0.13 | 2.00 | - | - |" in line(text, "published_ddpm_1000")
    assert "| 5 | 1.0 M |" in line(text, "sft_pg_short") and "A trial" not in text
    assert "- `sft_pg_short`, SW2, 10,000 points: +0.10" in text and "- `ddpm_10`, SW2" not in text


def test_what_was_measured_before_the_metrics_existed_has_a_dash(runs, tmp_path):
    seen = line(write_report(runs, TOY, tmp_path / "toy", tmp_path / "RESULTS.md"), "ddpm_10")
    assert seen.endswith("| 4.02 % | 0.04 ± 0.00 | 0.04 ± 0.00 | 0.04 ± 0.00 | - | - |")
    runs["ddpm_10"] = [made_up("ddpm_10", seed, 0, eyes=False) for seed in (0, 1)]
    text = write_report(runs, TOY, tmp_path / "toy", tmp_path / "RESULTS.md")
    assert line(text, "ddpm_10").endswith("| 4.02 % | - | - | - | - | - |")
    assert "A dash there: measured before these metrics existed" in " ".join(text.split())


def test_a_trial_says_how_its_budgets_differ(runs, tmp_path):
    runs["sft_pg_short"] = [made_up("sft_pg_short", 0, 4_000)]
    text = write_report(runs, TOY, tmp_path / "toy", tmp_path / "RESULTS.md")
    assert "**A trial, with other budgets of environment steps: `sft_pg_short` 4,000 of 4,000,000.**" in text


def test_runs_without_metrics_are_named_and_not_counted(runs, tmp_path):
    failed = {**runs["floor"][0], "status": "failed", "error": "OSError: disk", "metrics": None}
    text = write_report({**runs, "ddpm_10": [failed]}, TOY, tmp_path / "toy", tmp_path / "RESULTS.md")
    assert "**Not in the table: `floor` seed 0 failed (OSError: disk).**" in text
    assert "| `ddpm_10`" not in text and "Not in the table" not in write_report(runs, TOY, tmp_path, tmp_path / "R.md")


def test_the_readme_gets_the_calibrated_rows_between_its_markers(runs, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{README_START}\nold\n{README_END}\nafter\n")
    for _ in range(2):  # writing it again changes nothing
        write_readme(readme, runs, TOY)
        text = readme.read_text()
        assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
        assert [line.split("`")[1] for line in text.splitlines() if "`" in line] == ["floor", "ddpm_10", "sft_pg_short"]
    readme.write_text("no markers")
    with pytest.raises(ValueError, match="must hold the lines"):
        write_readme(readme, runs, TOY)


def test_pairs_are_of_one_seed(runs):
    other = [{**run, "seed": run["seed"] + 1} for run in runs["floor"]]
    assert compared(runs["ddpm_10"], other, "metrics", "sw2", lambda row, floor: row / floor) == [
        pytest.approx(0.04 * 1.01 / 0.01)
    ]
    assert values(runs["published_ddpm_1000"], "large_metrics", "sw2") == []


def test_steps_and_prior_are_those_of_the_task():
    assert [steps(ENTRIES[name]) for name in ("floor", "ddpm_100", "published_ddpm_1000")] == ["-", "100", "1000"]
    assert [prior(ENTRIES[name]) for name in ("floor", "published_sft_pg_b")] == ["calibrated", "published"]


def test_verdict_tells_a_difference_from_none():
    assert "yes, it can" in verdict([0.1, 0.11, 0.12])
    assert "no, the interval contains 0" in verdict([-0.1, 0.11, 0.05])
    assert verdict([0.1]) == "too few seeds"


def test_no_results_is_an_error_that_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m benchmarks\.toy"):
        write_report({}, TOY, tmp_path, tmp_path / "RESULTS.md")
