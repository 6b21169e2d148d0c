"""What a grid is made of: entries x tasks x seeds at one budget, all as data.

K is the number of denoising steps. An entry is a named algorithm and what is changed of its configuration. Nothing here
reads a file when it is imported: the settings that come from tuning are read when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.core.task import Task
from benchmarks.comparison.tuned import FEW, MANY, tuned

FLOOR, UNTOUCHED = "floor", "untouched"
REFERENCES = (FLOOR, UNTOUCHED)
"""What every score is measured against, a run of its own per task and seed: fresh data, the pretrained sampler."""
MANY_STEPS = 10
"""From this K on an entry has the hyper-parameters that were tuned for many steps."""


@dataclass(frozen=True)
class Entry:
    """One line of a comparison."""

    name: str
    """Unique in its grid; also the name of the file of its results."""
    algorithm: str
    """A name that `agents.zoo.find` knows, a user's "module:Class", or one of `REFERENCES`."""
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Hyper-parameters that differ from the algorithm's own, or from the study's."""
    study: str = ""
    """Name of the tuning study whose best trial the entry takes; "" for none."""
    first_stage: bool = False
    """Whether the study of the first stage, for few steps, is taken at every K."""
    divided: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Hyper-parameters of the study that are divided by a number."""
    title: str = ""
    """A few words for the tables."""
    family: str = ""
    """Entries of one family share a row of the figure of learning curves."""
    tasks: tuple[Task, ...] = ()
    """The only tasks it is run on; empty for all tasks of the grid."""
    total_timesteps: int | None = None
    """Its budget in environment steps; None for that of the grid."""
    expected: str = ""
    """The published number beside its row; "" where there is none."""

    @property
    def trains(self) -> bool:
        """Whether it has a budget."""
        return self.algorithm not in REFERENCES

    @property
    def by_steps(self) -> bool:
        """Whether its settings are those of another study from K = `MANY_STEPS` on."""
        return bool(self.study) and not self.first_stage

    def stage_at(self, num_steps: int) -> str:
        """The stage of tuning that its settings at K = ``num_steps`` come from."""
        return MANY if self.by_steps and num_steps >= MANY_STEPS else FEW

    def changes_at(self, num_steps: int) -> dict[str, Any]:
        """The hyper-parameters that differ from the algorithm's own at K = ``num_steps``."""
        found = tuned(self.study, self.stage_at(num_steps)) if self.study else {}
        return {**found, **{name: found[name] / by for name, by in self.divided.items()}, **self.changes}


REFERENCE_ENTRIES = tuple(Entry(name, name) for name in REFERENCES)


@dataclass(frozen=True)
class Run:
    """One training run, or one measurement of a reference."""

    entry: Entry
    task: Task
    seed: int

    @property
    def label(self) -> str:
        """For a line of progress."""
        return f"{self.entry.name} {task_name(self.task)} seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """Entries x tasks x seeds at one budget."""

    name: str
    """Unique; also the name of its report."""
    title: str
    """Heading of its report."""
    entries: tuple[Entry, ...]
    tasks: tuple[Task, ...]
    total_timesteps: Mapping[int, int] = field(default_factory=dict, hash=False)
    """Budget of every run in environment steps, by K (an iteration is finished, so a run may do one more)."""
    num_seeds: int = 5
    """Seeds 0 ... n-1."""
    baseline: str = "sft_pg"
    """The entry that the probability of improvement is measured against."""
    references: tuple[Entry, ...] = REFERENCE_ENTRIES
    """Entries that are run on every task and are no line of the tables of scores."""

    def __post_init__(self) -> None:
        names = [entry.name for entry in (*self.references, *self.entries)]
        if len(set(names)) < len(names) or self.baseline not in [entry.name for entry in self.entries]:
            raise ValueError(
                f"Grid {self.name!r} has the entries {names} and the baseline {self.baseline!r}. Names must be unique, "
                "and the baseline must be an entry that is no reference."
            )

    def runs(self, seeds: Iterable[int] | None = None) -> list[Run]:
        """Every run, references first, all entries and tasks of seed 0 before seed 1: interrupted, it is balanced."""
        wanted = range(self.num_seeds) if seeds is None else seeds
        entries = (*self.references, *self.entries)
        return [Run(entry, task, s) for s in wanted for entry in entries for task in entry.tasks or self.tasks]

    def budget(self, run: Run) -> int:
        """Environment steps of ``run``; 0 for a reference."""
        if not run.entry.trains:
            return 0
        own = run.entry.total_timesteps
        return self.total_timesteps[run.task.num_steps] if own is None else own

    def selected(self, entries: Sequence[str], tasks: Sequence[str], seeds: Sequence[int]) -> list[Run]:
        """The runs of these entries, tasks and seeds, all of them for none; ValueError lists what there is."""
        every = (*self.references, *self.entries)
        wanted = chosen("entries", [entry.name for entry in every], entries)
        where = chosen("tasks", [task_name(task) for task in self.tasks], tasks)
        when = chosen("seeds", list(range(self.num_seeds)), seeds)
        return [run for run in self.runs(when) if run.entry.name in wanted and task_name(run.task) in where]


def chosen(kind: str, there: Sequence[Any], names: Sequence[Any]) -> list[Any]:
    """Those of ``there`` that are in ``names``, all of them for no names; ValueError lists what there is."""
    unknown = [name for name in dict.fromkeys(names) if name not in there]
    if unknown:
        raise ValueError(f"Unknown {kind} {unknown}. Choose from {list(there)}.")
    return [name for name in there if not names or name in names]


def task_record(task: Task) -> dict[str, Any]:
    """What a result says of its task, JSON: data set, K, and the sampler and the denoiser if they are not the default.

    The critic and the number of environments are part of the settings of a run.
    """
    default, found = Task(), {"dataset": task.dataset, "num_steps": task.num_steps}
    other = {name: getattr(task, name) for name in ("sampler", "denoiser")}
    return found | {name: value for name, value in other.items() if value != getattr(default, name)}


def task_name(task: Task) -> str:
    """Data set and number of steps, such as swiss_roll_k10, and the other values of `task_record`."""
    return "_".join([task.name, *map(str, list(task_record(task).values())[2:])])
