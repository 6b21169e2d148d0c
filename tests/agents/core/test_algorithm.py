"""What watches an algorithm: callbacks bound to it, seeds from a generator, names of hyper-parameters."""

from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.core.algorithm import Algorithm, AlgorithmCallback, bound, refuse_unknown, seeded
from agents.core.task import Task
from agents.zoo import find


class Watched(AlgorithmCallback):
    """Remembers whom it watched when training began."""

    seen: Any = None

    def _on_training_start(self) -> None:
        self.seen = self.algorithm


@pytest.mark.parametrize("algo", ["ddpo", "ppo", "untouched"])
def test_a_callback_watches_the_algorithm_whatever_model_is_inside(algo: str, small_task: Task) -> None:
    algorithm: Algorithm = find(algo).make(small_task, 0)
    watched = Watched()
    algorithm.learn(algorithm.iteration_timesteps, watched, log_interval=1_000_000)
    assert watched.seen is algorithm


def test_callbacks_come_as_one_as_many_or_not_at_all(small_task: Task) -> None:
    algorithm = find("untouched").make(small_task, 0)
    watched, other = Watched(), Other()
    assert bound(None, algorithm) == [] and bound(other, algorithm) == [other]
    assert bound([other, watched], algorithm) == [other, watched]
    assert watched.algorithm is algorithm


class Other(BaseCallback):
    def _on_step(self) -> bool:
        return True


def test_a_generator_gives_the_seed() -> None:
    seeds: list[int] = []

    def sample(n: int, seed: int) -> torch.Tensor:
        seeds.append(seed)
        return torch.zeros(n, 2)

    draw, generator = seeded(sample), torch.Generator().manual_seed(0)
    assert draw(3, generator).shape == (3, 2)
    draw(3, generator)
    draw(3, torch.Generator().manual_seed(0))
    assert seeds[0] == seeds[2] != seeds[1]


def test_unknown_hyper_parameters_are_named() -> None:
    refuse_unknown("a", {"b": 1}, {"b": 2, "c": 3})
    with pytest.raises(ValueError, match=r"a has no hyper-parameter \['d', 'e'\]. Choose from \['b', 'c'\]"):
        refuse_unknown("a", {"e": 1, "d": 1, "b": 1}, {"b": 2, "c": 3})
