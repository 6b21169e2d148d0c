"""Every range of seeds that results rest on, in one table: no two ranges overlap.

What is trained, what is tuned and what is measured must not share a seed: a setting that was tuned on the points of a
table would be judged on what it was fitted to. The ranges of curves and of tuning are defined where they are used, in
`agents`, and are collected here.
"""

from __future__ import annotations

from agents.runs.callbacks import CURVE_SEED
from agents.tuning.trials import EVALUATION_SEED, TUNING_SEEDS

SETS_APART = 100
"""Seeds of evaluation that one training seed may take."""

SEEDS: dict[str, range] = {
    "training": range(TUNING_SEEDS.start),
    "tuning": TUNING_SEEDS,
    "curves": range(CURVE_SEED, CURVE_SEED + SETS_APART),
    "toy evaluation": range(20_000, EVALUATION_SEED),
    "tuning evaluation": range(EVALUATION_SEED, EVALUATION_SEED + len(TUNING_SEEDS)),
    "comparison evaluation": range(50_000, 50_000 + SETS_APART * TUNING_SEEDS.start),
}
"""What a seed is used for, and the seeds of that use."""


def evaluation_seeds(use: str, seed: int, count: int) -> tuple[int, ...]:
    """The ``count`` evaluation seeds of the training seed ``seed`` in the range ``use``; no other seed shares them.

    Raises ValueError for a training seed, or a number of evaluations, that the range has no room for.
    """
    found = range(SEEDS[use].start + SETS_APART * seed, SEEDS[use].start + SETS_APART * seed + count)
    if seed not in SEEDS["training"] or not 1 <= count <= SETS_APART or found[-1] not in SEEDS[use]:
        raise ValueError(
            f"Seed {seed} with {count} evaluations was asked for. {use.capitalize()} has room for the seeds 0 ... "
            f"{min(len(SEEDS[use]) // SETS_APART, len(SEEDS['training'])) - 1} with 1 ... {SETS_APART} evaluations."
        )
    return tuple(found)
