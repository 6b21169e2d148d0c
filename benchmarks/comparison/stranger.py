"""An algorithm that is in no grid beside the results that are there, on the same tasks at the same budget.

It is run; the entries of the grid are not. Its results have a folder of the user's, one file per name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.zoo import find
from benchmarks.comparison.grid import REFERENCES, Entry, Grid, Run, chosen, task_name
from benchmarks.comparison.markdown import table
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.record import Record, key_of
from benchmarks.comparison.results import RunResult, entry_path, merge_parts, read_entry, run_key
from benchmarks.comparison.runner import Plan, measure_saved, missing, run_missing, settings
from benchmarks.comparison.scores import Results, value
from benchmarks.comparison.statistics import improvement_interval
from benchmarks.comparison.tables import (
    BOOTSTRAP_SEED,
    NONE,
    below_cell,
    groups,
    interval_cell,
    iqm_cell,
    mean_cell,
    number,
    over_tasks,
)
from benchmarks.seeds import SEEDS


def stranger_entry(algo: str, name: str | None, changes: dict[str, Any]) -> Entry:
    """The entry of the algorithm ``algo``, called ``name`` or else as itself and its changes.

    Raises ValueError for an unknown algorithm, and for a hyper-parameter it does not have.
    """
    found = find(algo)
    found.settings(changes)
    called = name or "_".join([found.name, *(f"{key}={x}" for key, x in changes.items())])
    if Path(called).name != called:
        raise ValueError(f"--name is also the name of a file and cannot hold a slash; received {called!r}.")
    return Entry(called, algo, changes)


def differing(old: dict[str, Any], new: dict[str, Any]) -> str:
    """The settings that were other, in words."""
    pairs = {name: (old.get(name), new.get(name)) for name in {**old, **new}}
    return ", ".join(f"{name} was {was} and is {now}" for name, (was, now) in pairs.items() if was != now)


@dataclass(frozen=True)
class Stranger:
    """The runs of ``entry`` on tasks and seeds of a grid."""

    entry: Entry
    grid: Grid
    """The grid that it is compared with."""
    tasks: tuple[str, ...]
    """Names of tasks of the grid; empty for all."""
    seeds: tuple[int, ...]
    """Training seeds; empty for those of the grid."""
    folder: Path
    """Of its results."""
    protocol: Protocol
    """What is measured."""
    scale: float = 1.0
    """Multiple of the grid's budget."""

    def __post_init__(self) -> None:
        names = [entry.name for entry in (*self.grid.references, *self.grid.entries)]
        if self.entry.name in names:
            raise ValueError(
                f"The grid {self.grid.name!r} has an entry {self.entry.name!r} already. Choose another --name than "
                f"{names}."
            )
        outside = [seed for seed in self.seeds if seed not in SEEDS["training"]]
        if outside:
            raise ValueError(f"--seeds {outside}: training seeds are 0 ... {SEEDS['training'].stop - 1}.")

    @property
    def among(self) -> Grid:
        """The grid on the tasks that are asked for, with the new entry before its own."""
        wanted = chosen("tasks", [task_name(task) for task in self.grid.tasks], self.tasks)
        tasks = tuple(task for task in self.grid.tasks if task_name(task) in wanted)
        return replace(self.grid, tasks=tasks, entries=(self.entry, *self.grid.entries))

    @property
    def plan(self) -> Plan:
        """How its runs are made: as those of the grid."""
        return Plan(self.among, self.folder, self.protocol, self.scale)

    @property
    def runs(self) -> list[Run]:
        """Its own runs, in order."""
        return [run for run in self.among.runs(self.seeds or None) if run.entry == self.entry]

    def record(self) -> Record:
        """Its results, those of an interrupted call included."""
        merge_parts(self.folder)
        path = entry_path(self.folder, self.entry.name)
        return Record(self.folder, {self.entry.name: read_entry(path)} if path.exists() else {})

    def run_missing(self, processes: int) -> int:
        """Make the runs without a result; returns how many failed.

        Raises ValueError where a result was made with other settings: it would be lost.
        """
        record = self.record()
        there = {run_key(result): result for result in record.entries.get(self.entry.name, [])}
        for run in missing(self.runs, self.plan, record):
            found = there.get(key_of(run))
            if found is not None and found["status"] != "failed":
                raise ValueError(
                    f"{entry_path(self.folder, self.entry.name)} holds {run.label} with other settings: "
                    f"{differing(found['settings'], settings(run, self.plan))}. Choose another --name, or delete the "
                    "file."
                )
        return run_missing(self.runs, self.plan, record, processes)

    def measure_saved(self, processes: int) -> int:
        """Measure its saved samplers again; returns how many failed."""
        return measure_saved(self.runs, self.plan, self.record(), processes)

    def results(self, committed: Record) -> Results:
        """Its runs, made with the present settings, and those of the grid on the same tasks."""
        record = self.record()
        found = {run_key(result): result for result in record.entries.get(self.entry.name, [])}
        without = set(missing(self.runs, self.plan, record))
        own: dict[Run, RunResult] = {run: found[key_of(run)] for run in self.runs if run not in without}
        theirs = committed.runs_of(replace(self.among, entries=self.grid.entries))
        self._refuse_other_sizes(theirs)
        return Results(self.among, {**own, **theirs})

    def _refuse_other_sizes(self, theirs: dict[Run, RunResult]) -> None:
        wanted = asdict(self.protocol)
        for run, result in theirs.items():
            made = result["settings"]["protocol"]  # a size that one of the two does not know is of another edition
            differ = any(made[name] != x for name, x in wanted.items() if name in made)
            if run.entry.name in REFERENCES and differ:
                raise ValueError(
                    f"{run.label} was measured with {result['settings']['protocol']}, and --algo would be with "
                    f"{wanted}. Scores compare equal measurements only: leave the --protocol options out."
                )

    def table(self, committed: Record) -> str:
        """Its row and those of the grid on the same tasks, Markdown, with what a reader must know."""
        results = self.results(committed)
        grouped = list(groups(results).items())
        grouped = grouped if len(grouped) > 2 else grouped[:1]  # of a single K, all tasks are that K's
        columns = [
            *("entry", "runs", "seeds per task", *(f"IQM, {name}" for name, _ in grouped), "mean", "below 0"),
            *("exact W1 score", "AUC, boosting", "AUC, neighbours", "off support", f"P(`{self.entry.name}` is better)"),
        ]
        rows = [self._row(results, entry, [tasks for _, tasks in grouped]) for entry in results.grid.entries]
        return "\n\n".join([*self._sentences(results), table(columns, rows)])

    def _row(self, results: Results, entry: Entry, grouped: Sequence[Sequence[Any]]) -> list[str]:
        tasks, name = results.grid.tasks, entry.name
        ended = [len(results.of(name, [task], ["finished", "diverged"])) for task in tasks]
        seeds = sorted({min(ended), max(ended)})
        return [
            f"**`{name}`**" if entry == self.entry else f"`{name}`",
            str(sum(ended)),
            " to ".join(map(str, seeds)),
            *(iqm_cell(results, name, group) for group in grouped),
            mean_cell(results, name),
            below_cell(results, name),
            iqm_cell(results, name, tasks, "w1"),
            *(
                number(over_tasks(results, name, partial(value, metric=metric)), form)
                for metric, form in (
                    ("auc_boosting", "{:.3f}"),
                    ("auc_neighbours", "{:.3f}"),
                    ("off_support", "{:.2%}"),
                )
            ),
            NONE if entry == self.entry else self._chance(results, name),
        ]

    def _chance(self, results: Results, other: str) -> str:
        """That a run of the new entry is better than one of ``other``, on the tasks that both have."""
        own, theirs = results.scores(self.entry.name), results.scores(other)
        shared = [task for task in own if task in theirs]
        if not shared:
            return NONE
        x, y = ([scores[task] for task in shared] for scores in (own, theirs))
        return interval_cell(improvement_interval(x, y, BOOTSTRAP_SEED))

    def _sentences(self, results: Results) -> list[str]:
        """What the table is of, and each thing that a reader must know of its runs."""
        name, tasks = self.entry.name, results.grid.tasks
        counts = [len(results.of(name, [task], ["finished", "diverged"])) for task in tasks]
        without = len(self.runs) - sum(counts)
        listed = ", ".join(f"`{task_name(task)}`" for task in tasks)
        known = {
            f"`{name}` ({self.entry.algorithm}) beside the grid `{self.grid.name}` on {listed}. Score: 0 is the "
            "untouched sampler, 1 is fresh data; brackets are 95 % intervals over seeds. The other rows are results "
            "that were there and are not run again.": True,
            f"{without} of its {len(self.runs)} runs are missing or failed.": without > 0,
            "One seed gives no interval: a task has a single run. Give at least two --seeds.": 1 in counts,
            f"**A trial**: its runs had {self.scale:g} of the budget; the others had all of it.": self.scale != 1,
        }
        return [sentence for sentence, holds in known.items() if holds]
