"""No seed has two uses."""

from itertools import combinations, product

import pytest

from agents.runs.callbacks import CURVE_SEED, SamplerEvaluation
from agents.tuning.trials import EVALUATION_SEED, TUNING_SEEDS
from benchmarks.comparison.grids import GRIDS
from benchmarks.comparison.protocol import FLOOR_SETS, Protocol
from benchmarks.comparison.toy_grid import TOY, ToyProtocol
from benchmarks.seeds import SEEDS, SETS_APART, evaluation_seeds


def test_no_two_ranges_overlap():
    for (one, first), (other, second) in combinations(SEEDS.items(), 2):
        assert first[-1] < second[0] or second[-1] < first[0], (one, other)


def test_the_ranges_hold_what_is_used():
    assert SamplerEvaluation(1).seed == CURVE_SEED == SEEDS["curves"][0] and len(SEEDS["curves"]) >= FLOOR_SETS
    assert SEEDS["tuning"] == TUNING_SEEDS
    assert SEEDS["tuning evaluation"][0] == EVALUATION_SEED
    assert {run.seed for grid in (*GRIDS.values(), TOY) for run in grid.runs()} <= set(SEEDS["training"])
    for seed in range(5):
        assert {s for config in Protocol().final(seed) for s in config.seeds} <= set(SEEDS["comparison evaluation"])
        found = {s for task in TOY.tasks for config in ToyProtocol().final(task, seed).values() for s in config.seeds}
        assert len(found) == ToyProtocol().evaluations and found <= set(SEEDS["toy evaluation"])


def test_the_evaluation_seeds_are_those_of_the_committed_results():
    assert evaluation_seeds("comparison evaluation", 3, 2) == (50_300, 50_301)
    assert evaluation_seeds("toy evaluation", 3, 3) == (20_300, 20_301, 20_302)


def test_no_two_training_seeds_share_an_evaluation_seed():
    first, second = (evaluation_seeds("toy evaluation", seed, SETS_APART) for seed in (0, 1))
    assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("use", "seed", "count"),
    [
        *product(["toy evaluation", "comparison evaluation"], [-1, 1_000], [2]),
        ("toy evaluation", 100, 1),
        ("comparison evaluation", 0, 101),
        ("comparison evaluation", 0, 0),
    ],
)
def test_a_seed_without_room_is_refused(use, seed, count):
    with pytest.raises(ValueError, match=rf"Seed {seed} with {count} evaluations .* has room for the seeds 0 \.\.\."):
        evaluation_seeds(use, seed, count)
