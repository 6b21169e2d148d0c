"""The grids of the comparison: which algorithms, on which tasks, at what budget, with how many seeds.

A further comparison is a further entry of `GRIDS`. Grids share runs: an entry of one name is the same in all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.core.task import Task
from benchmarks.comparison.grid import Entry, Grid

NUM_ENVS = 128


def task(dataset: str, num_steps: int) -> Task:
    """A task of the comparison: the shipped network, ancestral sampling, the energy critic."""
    return Task(dataset=dataset, num_steps=num_steps, critic="energy", num_envs=NUM_ENVS)


TEN_STEP_SETS = ("swiss_roll", "moons", "gaussians8", "gaussians25", "checkerboard", "pinwheel")
"""The data sets that were measured; one that is added to the package changes no grid."""
TEN_STEPS = tuple(task(dataset, 10) for dataset in TEN_STEP_SETS)
FEW_STEP_SETS = ("swiss_roll", "gaussians8")
MAIN_TASKS = TEN_STEPS + tuple(task(dataset, k) for dataset in FEW_STEP_SETS for k in (1, 2, 5, 20))
FEWEST_TASKS = tuple(task(dataset, k) for dataset in FEW_STEP_SETS for k in (1, 2))
TIMESTEPS = {1: 150_000, 2: 150_000, 5: 200_000, 10: 500_000, 20: 500_000}
"""Budget by K. An episode has K steps, so equal steps would leave a sampler of 20 steps a twentieth of the episodes."""

OWN = ("reinforce", "sft_pg", "ddpo", "dpok", "grpo", "rwr", "dxdp", "pathwise")
SB3 = ("ppo", "a2c", "trpo", "sac", "td3")
FAMILIES = {**dict.fromkeys(OWN, "agents"), **dict.fromkeys(SB3, "stable-baselines3")}
TUNED = {name: Entry(name, name, study=name, family=family) for name, family in FAMILIES.items()}
CARRIED = {
    name: replace(TUNED[name], name=f"{name}_carried", first_stage=True, title="tuned at K = 1 and 5")
    for name in (*OWN, "ppo", "a2c")
}
"""What the first stage of tuning gives at many steps; trpo, sac and td3 were not run with it."""

WHOLE_CHAIN = Entry(
    "pathwise_whole", "pathwise", study="pathwise_whole", title="through all K steps", family=FAMILIES["pathwise"]
)

TABLE_STD = Entry(
    "table_std",
    "sft_pg",
    {"min_std": 0.0, "std": "fixed"},
    study="sft_pg",
    first_stage=True,
    title="the table's std: 0.01 in the last step",
    family=FAMILIES["sft_pg"],
)


def std(name: str, title: str, **changes: Any) -> Entry:
    """`TABLE_STD` with changes."""
    return replace(TABLE_STD, name=name, title=title, changes={**TABLE_STD.changes, **changes})


SFT_PG_STDS = (
    TABLE_STD,
    replace(
        TABLE_STD,
        name="table_std_slow",
        title="the same, a tenth of the step size",
        divided={"learning_rate": 10},
    ),
    std("table_std_equal_weights", "the same, steps weighted by std / eps_coef", step_weight="equal"),
    std("table_std_clip", "the same, two steps on the clipped ratio", surrogate="clip", n_generator=2),
    std("learned_std", "learned, from the table's", std="learned"),
    std("min_std_0.3", "at least 0.3", min_std=0.3),
    std("learned_std_min_0.3", "learned, from at least 0.3", std="learned", min_std=0.3),
)
"""What may keep the score function stable where a step's standard deviation is small: changes of the tuned `sft_pg`."""

GRIDS: dict[str, Grid] = {
    grid.name: grid
    for grid in (
        Grid("main", "Every algorithm on every task", tuple(TUNED.values()), MAIN_TASKS, TIMESTEPS),
        Grid(
            "controlled",
            "The gradient alone: score function, one-step value gradient, back-propagation",
            (TUNED["sft_pg"], TUNED["dxdp"], WHOLE_CHAIN, TUNED["pathwise"]),
            MAIN_TASKS,
            TIMESTEPS,
        ),
        Grid(
            "few_steps",
            "Policy gradient at one and two steps",
            (TUNED["sft_pg"], *SFT_PG_STDS),
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
            (replace(WHOLE_CHAIN, name="pathwise_whole_long"), replace(TUNED["grpo"], name="grpo_long")),
            TEN_STEPS,
            {10: 1_000_000},
            baseline="pathwise_whole_long",
        ),
    )
}
