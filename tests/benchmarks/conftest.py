"""Made-up results of a grid: files as benchmarks.compare writes them, with the numbers a test wants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from agents.core.task import Task
from benchmarks.comparison.grid import FLOOR, REFERENCES, UNTOUCHED, Entry, Grid, Run, task_record
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.record import load
from benchmarks.comparison.results import RunResult, entry_path, read_entry, write_entry
from benchmarks.comparison.scores import Results

ROLL, RING = Task("swiss_roll", num_steps=10), Task("gaussians8", num_steps=2)
BUDGET = {10: 1_000, 2: 1_000}
TINY = Grid("tiny", "A made-up grid", (Entry("sft_pg", "sft_pg"), Entry("ppo", "ppo")), (ROLL, RING), BUDGET, 3)
SMALL = Protocol(2, num_samples=300, w1_samples=100, refit_steps=3, curve_points=3, curve_samples=300)
UNTOUCHED_SW2, FLOOR_SW2 = 0.5, 0.1
METRICS = ("w1", "mmd", "refitted_ipm", "off_support", "recall", "auc_boosting", "auc_neighbours")

Write = Callable[..., Path]
Change = Callable[[RunResult], RunResult | None]
Alter = Callable[..., None]


def made_up(run: Run, sw2: float | None, **changes: Any) -> RunResult:
    """A result whose every metric is ``sw2``; diverged for None."""
    reference = run.entry.name in REFERENCES
    metrics = None if sw2 is None else {"sw2": [sw2, sw2], **{name: [sw2] for name in METRICS}, "mode_coverage": [None]}
    costs = {"timesteps": 1_000, "network_evaluations": 3_000, "train_cpu_seconds": 7.0, "training_ipm": 0.25}
    curve = [{"num_timesteps": 0, "sw2": UNTOUCHED_SW2}, {"num_timesteps": 500, "sw2": 0.3 if sw2 is None else sw2}]
    return {
        "entry": run.entry.name,
        "task": task_record(run.task),
        "seed": run.seed,
        "settings": {"total_timesteps": 0 if reference else 1_000, "protocol": asdict(SMALL)},
        "status": "finished" if sw2 is not None else "diverged",
        "error": "",
        "metrics": metrics,
        "machine": {"processor": "a processor", "cores": 2},
        "commit": "0123",
        "versions": {"torch": "2"},
        **({"curve_sw2": sw2} if reference else {"curve": curve, **costs}),
        **changes,
    }


@pytest.fixture
def tiny() -> Grid:
    """Two entries, two tasks, three seeds; untouched is 0.5 and the floor 0.1 everywhere."""
    return TINY


@pytest.fixture(scope="session")
def small() -> Protocol:
    """A protocol that measures in tenths of a second; the made-up results have its sizes."""
    return SMALL


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(sft_pg=0.1, ppo=None)``: the references and, for every task and seed, one result per entry."""

    def write(**sw2: float | None) -> Path:
        values = {UNTOUCHED: UNTOUCHED_SW2, FLOOR: FLOOR_SW2, **sw2}
        for name, x in values.items():
            runs = [made_up(run, x) for run in TINY.runs() if run.entry.name == name]
            write_entry(entry_path(tmp_path / "runs", name), runs)
        return tmp_path / "runs"

    return write


@pytest.fixture
def alter() -> Alter:
    """``alter(folder, entry, change, dataset, seed)``: write the runs of that data set and seed as ``change`` says.

    ``change`` is a dictionary of new values, or a function of a result that returns the new one, or None to delete it.
    """

    def alter(
        folder: Path,
        entry: str,
        change: Change | dict[str, Any],
        dataset: str | None = None,
        seed: int | None = None,
    ) -> None:
        path, hits = entry_path(folder, entry), 0
        kept = []
        for result in read_entry(path):
            new: RunResult | None = result
            if dataset in (None, result["task"]["dataset"]) and seed in (None, result["seed"]):
                hits += 1
                new = {**result, **change} if isinstance(change, dict) else change(result)
            kept += [] if new is None else [new]
        assert hits
        write_entry(path, kept)

    return alter


@pytest.fixture
def results_in() -> Callable[[Path, Grid], Results]:
    """``results_in(folder, grid)``: what the folder holds of the grid."""
    return lambda folder, grid: Results(grid, load(folder, [grid]).runs_of(grid))
