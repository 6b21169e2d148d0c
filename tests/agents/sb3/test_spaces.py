"""What may be tuned of stable-baselines3's algorithms: hyper-parameters that they have, around their presets."""

import pytest

from agents.core.task import Task
from agents.sb3 import spaces
from agents.sb3.registry import SB3_ALGORITHMS, keywords_of
from agents.zoo import find

OF_MAKE_SB3 = {"episodes", "learn_std", "min_std"}
"""Keywords of `make_sb3`; all others are keywords of the classes."""


@pytest.mark.parametrize("algo", SB3_ALGORITHMS)
def test_what_is_tuned_are_keywords_of_the_class_or_of_make_sb3(algo: str) -> None:
    space = getattr(spaces, algo.upper())
    assert SB3_ALGORITHMS[algo].space == space and "learning_rate" in space
    assert set(space) - OF_MAKE_SB3 <= set(keywords_of(SB3_ALGORITHMS[algo].load_class()))


@pytest.mark.parametrize("algo", SB3_ALGORITHMS)
def test_a_value_of_the_preset_lies_in_its_space(algo: str) -> None:
    """So that the first trial of a study can be the preset."""
    preset = SB3_ALGORITHMS[algo]
    start = {"learning_rate": preset.learning_rate, **preset.hyperparameters}
    inside = {name: one for name, one in getattr(spaces, algo.upper()).items() if name in start}
    assert inside
    assert all(parameter.including(start[name]) == parameter for name, parameter in inside.items())


def test_the_entry_of_the_zoo_takes_it(small_task: Task) -> None:
    assert find("ppo").space(small_task).keys() == spaces.PPO.keys()
