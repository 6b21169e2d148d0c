"""Options as data: tasks of a study, flags of an algorithm."""

import pytest

from agents.algorithms.presets import PRESETS
from agents.commands.options import NoFlags, Train, Tune, default_algorithm
from agents.core.task import Conditions, Task


def test_a_study_has_every_data_set_at_every_number_of_steps() -> None:
    options = Tune(dataset=("moons", "pinwheel"), num_steps=(1, 5), conditions=Conditions(critic="mmd", num_envs=7))
    names = ["moons_k1", "moons_k5", "pinwheel_k1", "pinwheel_k5"]
    assert [task.name for task in options.tasks] == names
    assert options.tasks[0] == Task("moons", 1, critic="mmd", num_envs=7)


def test_typed_flags_are_those_of_the_configuration() -> None:
    assert all(default_algorithm(name) == preset.config for name, preset in PRESETS.items())
    assert default_algorithm("ppo") == default_algorithm("untouched") == NoFlags()
    assert default_algorithm("agents:DDPO") == PRESETS["ddpo"].config


def test_names_and_values_win_over_flags() -> None:
    options = Train(set=("n_critic=7", "std=learned"))
    assert (options.changes["n_critic"], options.changes["std"], options.changes["n_generator"]) == (7, "learned", 1)
    with pytest.raises(ValueError, match="--set takes NAME=VALUE"):
        _ = Train(set=("n_critic",)).changes
