"""The results in a folder, read once, and the runs of a grid among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.comparison.grid import Grid, Run, task_record
from benchmarks.comparison.results import RunResult, entry_path, read_folder, run_key


@dataclass(frozen=True)
class Record:
    """Every run in ``folder``."""

    folder: Path
    entries: Mapping[str, list[RunResult]]
    """The runs by the name of their entry."""

    def runs_of(self, grid: Grid) -> dict[Run, RunResult]:
        """The runs of ``grid`` that are there, in the grid's order."""
        found = {name: {run_key(result): result for result in results} for name, results in self.entries.items()}
        there = ((run, found.get(run.entry.name, {}).get(key_of(run))) for run in grid.runs())
        return {run: result for run, result in there if result is not None}


def key_of(run: Run) -> tuple[Any, ...]:
    """The `run_key` that the result of ``run`` has."""
    return run_key({"task": task_record(run.task), "seed": run.seed})


def load(folder: Path, grids: Iterable[Grid]) -> Record:
    """The results in ``folder``, all of which must be runs of ``grids``.

    Raises ValueError for an orphan, which is a run that no grid has: no report would show it.
    """
    record = Record(folder, read_folder(folder))
    known: dict[str, set[tuple[Any, ...]]] = {}
    names = []
    for grid in grids:
        names.append(grid.name)
        for run in grid.runs():
            known.setdefault(run.entry.name, set()).add(key_of(run))
    for entry, results in record.entries.items():
        orphans = [result for result in results if run_key(result) not in known.get(entry, set())]
        if orphans:
            raise ValueError(
                f"{entry_path(folder, entry)} holds {len(orphans)} runs that none of the grids {names} has, such as "
                f"the task {orphans[0]['task']} with seed {orphans[0]['seed']}. Put the entry, the task or the seed "
                "into a grid, or delete these lines."
            )
    return record
