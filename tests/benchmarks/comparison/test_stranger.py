"""An algorithm of a user beside results that are there: it is run, they are not; what its row says."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import compare
from benchmarks.comparison.grid import Entry
from benchmarks.comparison.grids import GRIDS
from benchmarks.comparison.record import load
from benchmarks.comparison.results import entry_path, read_entry, write_entry
from benchmarks.comparison.statistics import improvement_interval
from benchmarks.comparison.stranger import Stranger, stranger_entry

MODULE = '''
"""Algorithms of a user, in a file anywhere on the path."""

from stable_baselines3 import A2C

from agents import SFTPG
from agents.zoo import find


class MyPG(SFTPG):
    """A policy gradient with a loss of its own."""

    def policy_loss(self, *arguments):
        """Twice its base's."""
        loss, metrics = super().policy_loss(*arguments)
        return 2 * loss, metrics


class MyA2C(A2C):
    """stable-baselines3's, under a name of its own."""


def wider(task, total_timesteps, seed, width=1.5):
    """The untouched sampler, stretched."""
    untouched = find("untouched").make(task, seed)
    return lambda n, seed: width * untouched.sample(n, seed)
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "strangers_of_a_test.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "strangers_of_a_test"


@pytest.fixture
def beside(write, tiny, small, tmp_path):
    """``beside(algo, seeds, **changes)``: the stranger and the made-up results that it is compared with."""

    def beside(algo, seeds=(0, 1), name=None, tasks=("gaussians8_k2",), **changes):
        folder = write(sft_pg=0.2, ppo=0.4)
        stranger = Stranger(stranger_entry(algo, name, changes), tiny, tasks, seeds, tmp_path / "mine", small)
        return stranger, load(folder, [tiny])

    return beside


def row(table, name):
    lines = (line for line in table.splitlines() if line.startswith((f"| `{name}`", f"| **`{name}`**")))
    return [cell.strip() for cell in next(lines).split("|")]


@pytest.mark.parametrize("algo", ["MyPG", "MyA2C", "wider"])
def test_an_agent_a_model_and_a_function_get_a_row_with_intervals(module, beside, algo):
    stranger, committed = beside(f"{module}:{algo}")
    assert stranger.run_missing(processes=1) == 0
    path = entry_path(stranger.folder, algo)
    runs = read_entry(path)
    assert [(run["task"]["dataset"], run["seed"], run["status"]) for run in runs] == [
        ("gaussians8", seed, "finished") for seed in (0, 1)
    ]
    assert all(run["settings"]["algorithm"] == f"{module}:{algo}" for run in runs)
    assert all(run["settings"]["total_timesteps"] == 1_000 for run in runs)  # the grid's own budget
    table = stranger.table(committed)
    cells = row(table, algo)
    assert cells[1:4] == [f"**`{algo}`**", "2", "2"] and cells[4].endswith("]") and cells[-2] == "-"
    assert [row(table, name)[2:4] for name in ("sft_pg", "ppo")] == [["3", "3"]] * 2
    results = stranger.results(committed)
    own, theirs = (list(results.scores(name).values()) for name in (algo, "sft_pg"))
    estimate, low, high = (float(x) for x in improvement_interval(own, theirs, 0))
    assert row(table, "sft_pg")[-2] == f"{estimate:.2f} [{low:.2f}, {high:.2f}]"
    assert "not run again" in table and "One seed" not in table and "missing" not in table


def test_the_second_call_goes_on_where_the_first_stopped(module, beside, monkeypatch):
    stranger, _ = beside(f"{module}:wider", seeds=(0,))
    assert stranger.run_missing(1) == 0
    first = read_entry(entry_path(stranger.folder, "wider"))
    more = replace(stranger, seeds=(0, 1))
    assert more.run_missing(1) == 0
    both = read_entry(entry_path(stranger.folder, "wider"))
    assert both[0] == first[0] and [run["seed"] for run in both] == [0, 1]
    monkeypatch.setattr("benchmarks.comparison.runner.execute_and_save", None)  # would fail if it were called
    assert more.run_missing(1) == 0


def test_a_single_seed_says_that_it_gives_no_interval(module, beside):
    stranger, committed = beside(f"{module}:wider", seeds=(0,))
    stranger.run_missing(1)
    table = stranger.table(committed)
    assert "One seed gives no interval" in table and "[" not in row(table, "wider")[4]
    assert "[" in row(table, "ppo")[4] and "[" not in row(table, "ppo")[-2]


def test_changed_settings_have_a_file_of_their_own_and_never_replace_another_result(module, beside):
    stranger, committed = beside(f"{module}:wider", seeds=(0,))
    stranger.run_missing(1)
    wide = replace(stranger, entry=stranger_entry(f"{module}:wider", None, {"width": 3.0}))
    assert wide.entry.name == "wider_width=3.0" and "1 of its 1 runs are missing or failed" in wide.table(committed)
    wide.run_missing(1)
    found = read_entry(entry_path(stranger.folder, "wider_width=3.0"))
    assert [run["settings"]["hyperparameters"] for run in found] == [{"width": 3.0}]
    same = replace(stranger, entry=stranger_entry(f"{module}:wider", "wider", {"width": 3.0}))
    with pytest.raises(
        ValueError, match=r"with other settings: hyperparameters was .*1\.5.* is .*3\.0.* another --name"
    ):
        same.run_missing(1)


def test_a_failed_run_is_tried_again(module, beside):
    stranger, _ = beside(f"{module}:wider", seeds=(0,))
    stranger.run_missing(1)
    path = entry_path(stranger.folder, "wider")
    write_entry(path, [{**run, "status": "failed", "settings": {}} for run in read_entry(path)])
    stranger.run_missing(1)
    assert [run["status"] for run in read_entry(path)] == ["finished"]


def test_the_scores_are_restricted_to_the_tasks_asked_for(write, tiny, small, tmp_path, alter):
    folder = write(sft_pg=0.2, ppo=0.4)
    alter(folder, "ppo", lambda run: {**run, "metrics": {**run["metrics"], "sw2": [0.1]}}, "gaussians8")
    entry = Entry("mine", "untouched")
    for tasks, iqm in ((("gaussians8_k2",), "1.00 [1.00, 1.00]"), (("swiss_roll_k10",), "0.25 [0.25, 0.25]")):
        table = Stranger(entry, tiny, tasks, (), tmp_path, small).table(load(folder, [tiny]))
        assert row(table, "ppo")[4] == iqm
    both = Stranger(entry, tiny, (), (), tmp_path, small).table(load(folder, [tiny]))
    assert "IQM, all | IQM, K = 2 | IQM, K = 10" in both
    assert row(both, "ppo")[5:7] == ["1.00 [1.00, 1.00]", "0.25 [0.25, 0.25]"]
    assert "6 of its 6 runs are missing or failed" in both and row(both, "mine")[4] == "-"


def test_the_row_shows_mean_and_share_below_zero_of_its_scores(module, beside):
    stranger, committed = beside(f"{module}:wider")
    stranger.run_missing(1)
    scores = np.concatenate(list(stranger.results(committed).scores("wider").values()))
    cells = row(stranger.table(committed), "wider")
    assert cells[5:7] == [f"{scores.mean():.2f}", f"{(scores < 0).mean():.0%}"]


def test_what_cannot_be_compared_is_refused_with_a_sentence(module, beside, tiny, small):
    with pytest.raises(ValueError, match=r"has an entry 'ppo' already\. Choose another --name"):
        beside("ppo")
    with pytest.raises(ValueError, match=r"--seeds \[1000\]: training seeds are 0 \.\.\. 999"):
        beside(f"{module}:wider", seeds=(0, 1_000))
    with pytest.raises(ValueError, match="cannot hold a slash"):
        beside(f"{module}:wider", name="a/b")
    with pytest.raises(ValueError, match="no hyper-parameter"):
        beside(f"{module}:wider", widht=2)
    stranger, committed = beside(f"{module}:wider", name="other")
    with pytest.raises(ValueError, match="Unknown tasks"):
        replace(stranger, tasks=("moons_k10",)).run_missing(1)
    with pytest.raises(ValueError, match="Scores compare equal measurements only"):
        replace(stranger, protocol=replace(small, num_samples=301)).table(committed)


def test_a_trial_budget_is_announced(module, beside):
    stranger, committed = beside(f"{module}:wider", seeds=(0,))
    assert "**A trial**: its runs had 0.5 of the budget" in replace(stranger, scale=0.5).table(committed)


def test_the_command_compares_a_file_of_the_current_folder(module, write, tiny, small, tmp_path, monkeypatch, capsys):
    write(sft_pg=0.2, ppo=0.4)
    monkeypatch.setitem(GRIDS, "tiny", tiny)
    monkeypatch.setattr(compare, "GRIDS", {"tiny": tiny})
    monkeypatch.chdir(tmp_path)
    config = compare.CompareConfig(
        grid="tiny",
        algo=f"{module}:wider",
        name="stretched",
        changes=("width=2.0",),
        tasks=("gaussians8_k2",),
        seeds=(0, 1),
        processes=1,
        protocol=small,
        results=tmp_path,
    )
    before = {path: path.read_bytes() for path in (tmp_path / "runs").glob("*.jsonl")}
    assert compare.main(config) == 0
    assert row(capsys.readouterr().out, "stretched")[2] == "2"
    found = read_entry(tmp_path / "runs" / "compare" / "stretched.jsonl")
    assert [run["settings"]["hyperparameters"] for run in found] == [{"width": 2.0}] * 2
    assert {path: path.read_bytes() for path in (tmp_path / "runs").glob("*.jsonl")} == before
    write_entry(tmp_path / "runs" / "compare" / "stretched.jsonl", found[:1])
    assert compare.main(replace(config, report_only=True)) == 0
    assert "1 of its 2 runs are missing or failed" in capsys.readouterr().out
