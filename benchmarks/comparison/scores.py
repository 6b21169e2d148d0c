"""From the results of a grid to normalised scores; nothing here is stored.

score = (untouched - x) / (untouched - floor): 0 is the pretrained K-step sampler, 1 is fresh data. x is a run's mean
over its evaluation sets; untouched and floor are constants of the task, means over all their runs. A score is never
below `LOWEST`, and that is also what a diverged run gets, so that it counts like the worst run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from agents.core.task import Task
from benchmarks.comparison.grid import FLOOR, UNTOUCHED, Grid, Run
from benchmarks.comparison.results import RunResult

Array = NDArray[np.float64]

LOWEST = -1.0
"""The gap to the data has doubled, or worse."""
CURVE_GRID = np.linspace(0.0, 1.0, 21)
"""Shares of the budget at which learning curves are compared."""


@dataclass(frozen=True)
class Results:
    """The runs of one grid that are there."""

    grid: Grid
    runs: Mapping[Run, RunResult]
    """In the grid's order."""

    def of(self, entry: str, tasks: Iterable[Task] | None = None, status: Sequence[str] = ()) -> list[RunResult]:
        """Results of the entry called ``entry``, seeds and tasks in order; all of them for no ``status``."""
        wanted = set(self.grid.tasks if tasks is None else tasks)
        return [
            result
            for run, result in self._by_entry.get(entry, [])
            if run.task in wanted and (not status or result["status"] in status)
        ]

    @cached_property
    def _by_entry(self) -> dict[str, list[tuple[Run, RunResult]]]:
        found: dict[str, list[tuple[Run, RunResult]]] = {}
        for run, result in self.runs.items():
            found.setdefault(run.entry.name, []).append((run, result))
        return found

    def missing(self) -> list[Run]:
        """Runs of the grid without a result."""
        return [run for run in self.grid.runs() if run not in self.runs]

    def values(self, entry: str, metric: str, tasks: Iterable[Task] | None = None) -> list[float]:
        """Per finished run the mean of ``metric`` over its sets; runs that have none are left out."""
        found = (value(result, metric) for result in self.of(entry, tasks, ["finished"]))
        return [number for number in found if number is not None]

    def scored_tasks(self, tasks: Iterable[Task] | None = None) -> list[Task]:
        """The tasks whose floor and untouched sampler are known."""
        wanted = self.grid.tasks if tasks is None else tasks
        return [t for t in wanted if all(self.of(name, [t], ["finished"]) for name in (FLOOR, UNTOUCHED))]

    def scores(self, entry: str, metric: str = "sw2", tasks: Iterable[Task] | None = None) -> dict[Task, Array]:
        """Normalised scores (n_t,) of the finished and diverged runs, for the tasks that have any."""
        found = {}
        for task in self.scored_tasks(tasks):
            untouched, floor = (fmean(self.values(name, metric, [task])) for name in (UNTOUCHED, FLOOR))
            ended = self.of(entry, [task], ["finished", "diverged"])
            if ended:
                found[task] = normalised([value(result, metric) for result in ended], untouched, floor)
        return found

    def curves(self, entry: str, tasks: Iterable[Task] | None = None) -> dict[Task, Array]:
        """Normalised SW2 (n_t, 21) at `CURVE_GRID`, on the curve's own points."""
        found = {}
        for task in self.scored_tasks(tasks):
            untouched, floor = (
                fmean(result["curve_sw2"] for result in self.of(name, [task], ["finished"]))
                for name in (UNTOUCHED, FLOOR)
            )
            ended = self.of(entry, [task], ["finished", "diverged"])
            if ended:
                found[task] = np.stack([normalised(curve(result), untouched, floor) for result in ended])
        return found


def value(result: RunResult, metric: str) -> float | None:
    """Mean of ``metric`` over a run's sets; None where it does not exist or the run has diverged."""
    known = [number for number in (result["metrics"] or {}).get(metric, []) if number is not None]
    return fmean(known) if known else None


def normalised(values: Sequence[float | None] | Array, untouched: float, floor: float) -> Array:
    """(untouched - x) / (untouched - floor), at least `LOWEST`; None, a diverged run, is `LOWEST`."""
    numbers = np.array([np.inf if x is None else x for x in values])
    return np.maximum((untouched - numbers) / (untouched - floor), LOWEST)


def curve(result: RunResult) -> list[float | None]:
    """SW2 at `CURVE_GRID`, interpolated between measurements; None after a run has diverged."""
    if not result["curve"]:
        return [None] * len(CURVE_GRID)
    steps, sw2 = (np.array([point[key] for point in result["curve"]]) for key in ("num_timesteps", "sw2"))
    at = CURVE_GRID * result["settings"]["total_timesteps"]
    lost = (at > steps[-1]) & (result["status"] == "diverged")
    return [None if gone else float(v) for gone, v in zip(lost, np.interp(at, steps, sw2), strict=True)]
