"""The grids of the comparison: which algorithms, on which tasks, at what budget, with how many seeds.

K is the number of denoising steps. An entry is a named algorithm and what is changed of its configuration; a grid is
data, so a further comparison is a further row of `GRIDS`. Grids share runs: an entry of one name is the same in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agents.algorithms.presets import PRESETS
from agents.sb3.registry import SB3_ALGORITHMS
from benchmarks.comparison.tuned import MANY, tuned
from diffusion_env.data.named import DATASETS

NUM_ENVS = 128
FLOOR, UNTOUCHED = "floor", "untouched"
REFERENCES = (FLOOR, UNTOUCHED)
"""What every score is measured against, a run of its own per task and seed: fresh data, the pretrained sampler."""
MANY_STEPS = 10
"""From this K on an entry has the hyper-parameters that were tuned for many steps."""


@dataclass(frozen=True)
class Task:
    """A data set and a number of steps."""

    dataset: str
    """Name of a data set with shipped weights."""
    num_steps: int
    """K."""

    @property
    def name(self) -> str:
        """Unique; part of the names of result files."""
        return f"{self.dataset}_k{self.num_steps}"


@dataclass(frozen=True)
class Entry:
    """One line of a comparison."""

    name: str
    """Unique in its grid; also the folder of its results."""
    algorithm: str
    """A row of `agents.algorithms.presets` or of stable-baselines3's table, or one of `REFERENCES`."""
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Fields of the preset's configuration, or keywords of the stable-baselines3 class, that differ from the row."""
    many_steps: Mapping[str, Any] | None = field(default=None, hash=False)
    """What differs instead where K >= `MANY_STEPS`; None for the same."""
    title: str = ""
    """A few words for the tables."""
    critic: str = "energy"
    """The reward that trains it."""

    def __post_init__(self) -> None:
        known = (*PRESETS, *SB3_ALGORITHMS, *REFERENCES)
        if self.algorithm not in known:
            raise ValueError(f"Entry {self.name!r} asks for the algorithm {self.algorithm!r}. Choose one of {known}.")

    def at(self, num_steps: int) -> Entry:
        """What is run at K = ``num_steps``: the entry with one set of changes."""
        own = self.many_steps if num_steps >= MANY_STEPS else None
        return replace(self, changes=self.changes if own is None else own, many_steps=None)


REFERENCE_ENTRIES = tuple(Entry(name, name) for name in REFERENCES)


@dataclass(frozen=True)
class Grid:
    """Entries x tasks x seeds at one budget."""

    name: str
    """Unique; also the name of its report."""
    title: str
    """Heading of its report."""
    entries: tuple[Entry, ...]
    tasks: tuple[Task, ...]
    total_timesteps: Mapping[int, int] = field(hash=False)
    """Budget of every run in environment steps, by K (an iteration is finished, so a run may do one more)."""
    num_seeds: int = 5
    """Seeds 0 ... n-1."""
    baseline: str = "sft_pg"
    """The entry that the probability of improvement is measured against."""

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if len(set(names)) < len(names) or set(names) & set(REFERENCES) or self.baseline not in names:
            raise ValueError(
                f"Grid {self.name!r} has the entries {names} and the baseline {self.baseline!r}. Names must be unique "
                f"and none of {REFERENCES}, and the baseline must be one of them."
            )

    def runs(self, seeds: Iterable[int] | None = None) -> list[Run]:
        """Every run, references first, all entries and tasks of seed 0 before seed 1: interrupted, it is balanced."""
        everything = (*REFERENCE_ENTRIES, *self.entries)
        wanted = range(self.num_seeds) if seeds is None else seeds
        tasks = self.tasks
        return [Run(entry.at(task.num_steps), task, seed) for seed in wanted for entry in everything for task in tasks]


@dataclass(frozen=True)
class Run:
    """One training run, or one measurement of a reference."""

    entry: Entry
    task: Task
    seed: int

    @property
    def path(self) -> str:
        """Of its JSON, inside the grid's folder."""
        return f"{self.entry.name}/{self.task.name}_seed{self.seed}.json"


def selected(items: Sequence[Any], names: Sequence[str]) -> tuple[Any, ...]:
    """The ``items`` called ``names``, all of them for none; ValueError lists the names there are."""
    unknown = sorted(set(names) - {item.name for item in items})
    if unknown:
        raise ValueError(f"Unknown names {unknown}. Choose from {[item.name for item in items]}.")
    return tuple(item for item in items if not names or item.name in names)


TEN_STEPS = tuple(Task(dataset, 10) for dataset in DATASETS)
FEW_STEP_SETS = ("swiss_roll", "gaussians8")
MAIN_TASKS = TEN_STEPS + tuple(Task(dataset, k) for dataset in FEW_STEP_SETS for k in (1, 2, 5, 20))
FEWEST_TASKS = tuple(Task(dataset, k) for dataset in FEW_STEP_SETS for k in (1, 2))
TIMESTEPS = {1: 150_000, 2: 150_000, 5: 200_000, 10: 500_000, 20: 500_000}
"""Budget by K. An episode has K steps, so equal steps would leave a sampler of 20 steps a twentieth of the episodes."""
NAMED = ("reinforce", "sft_pg", "ddpo", "dpok", "grpo", "rwr", "dxdp", "pathwise", "ppo", "a2c", "trpo", "sac", "td3")
TUNED = {name: Entry(name, name, tuned(name), tuned(name, MANY)) for name in NAMED}
CARRIED = {name: Entry(f"{name}_carried", name, tuned(name), title="tuned at K = 1 and 5") for name in NAMED[:10]}
"""What the first stage of tuning gives at many steps; trpo, sac and td3 were not run with it."""

WHOLE_CHAIN = Entry(
    "pathwise_whole", "pathwise", tuned("pathwise_whole"), tuned("pathwise_whole", MANY), "through all K steps"
)

TABLE_STD: dict[str, Any] = {"min_std": 0.0, "std": "fixed"}
SFT_PG_STDS: dict[str, tuple[dict[str, Any], str]] = {
    "table_std": ({}, "the table's std: 0.01 in the last step"),
    "table_std_slow": ({"learning_rate": tuned("sft_pg")["learning_rate"] / 10}, "the same, a tenth of the step size"),
    "table_std_equal_weights": ({"step_weight": "equal"}, "the same, steps weighted by std / eps_coef"),
    "table_std_clip": ({"surrogate": "clip", "n_generator": 2}, "the same, two steps on the clipped ratio"),
    "learned_std": ({"std": "learned"}, "learned, from the table's"),
    "min_std_0.3": ({"min_std": 0.3}, "at least 0.3"),
    "learned_std_min_0.3": ({"std": "learned", "min_std": 0.3}, "learned, from at least 0.3"),
}
"""What may keep the score function stable where a step's standard deviation is small: changes of the tuned `sft_pg`."""

GRIDS: dict[str, Grid] = {
    grid.name: grid
    for grid in (
        Grid("main", "Thirteen algorithms", tuple(TUNED.values()), MAIN_TASKS, TIMESTEPS),
        Grid(
            "controlled",
            "The gradient alone: score function, one-step value gradient, back-propagation",
            (
                TUNED["sft_pg"],
                TUNED["dxdp"],
                WHOLE_CHAIN,
                TUNED["pathwise"],
            ),
            MAIN_TASKS,
            TIMESTEPS,
        ),
        Grid(
            "few_steps",
            "Policy gradient at one and two steps",
            (
                TUNED["sft_pg"],
                *(
                    Entry(name, "sft_pg", tuned("sft_pg", **TABLE_STD | changes), title=title)
                    for name, (changes, title) in SFT_PG_STDS.items()
                ),
            ),
            FEWEST_TASKS,
            TIMESTEPS,
        ),
        Grid(
            "ten_steps",
            "Ten steps: tuned near them, and tuned at one and five",
            tuple(entry for name, carried in CARRIED.items() for entry in (TUNED[name], carried)),
            TEN_STEPS,
            TIMESTEPS,
        ),
        Grid(
            "longer",
            "Ten steps: twice the budget",
            (replace(WHOLE_CHAIN, name="pathwise_whole_long"),),
            TEN_STEPS,
            {10: 1_000_000},
            baseline="pathwise_whole_long",
        ),
    )
}
