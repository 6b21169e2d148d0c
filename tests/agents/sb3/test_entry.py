"""A class of stable-baselines3 before it is made: its hyper-parameters, and the model for a task."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stable_baselines3 import PPO

from agents.core.task import Task
from agents.sb3.entry import GIVEN, SB3Entry
from agents.sb3.registry import SB3_ALGORITHMS
from agents.sb3.run import SB3Run
from agents.zoo import load_agent

ENTRY = SB3Entry("mine", "a paper", SB3_ALGORITHMS["ppo"])
SMALL = {"episodes": 1, "n_epochs": 1}


def test_its_settings_are_what_differs_from_the_class_with_changes() -> None:
    own = ENTRY.settings({})
    assert own == {"action_mode": "step", "learning_rate": 6e-4, **SB3_ALGORITHMS["ppo"].hyperparameters}
    assert ENTRY.settings({"gamma": 0.9, "n_epochs": 7}) == {**own, "gamma": 0.9, "n_epochs": 7}
    assert own.items() <= ENTRY.defaults.items() and not set(GIVEN) & set(ENTRY.defaults)


@pytest.mark.parametrize("name", ["n_epoch", "seed", "device"])
def test_names_that_cannot_be_changed_are_refused(name: str, small_task: Task) -> None:
    for call in (lambda: ENTRY.settings({name: 1}), lambda: ENTRY.make(small_task, 0, {name: 1})):
        with pytest.raises(ValueError, match=rf"mine has no hyper-parameter \['{name}'\].*n_epochs"):
            call()


def test_it_makes_the_model_for_the_task(small_task: Task) -> None:
    run = ENTRY.make(small_task, 5, {**SMALL, "learning_rate": 0.5, "action_mode": "residual"})
    assert isinstance(run, SB3Run) and isinstance(run.model, PPO)
    assert (run.name, run.seed, run.env.num_envs, run.env.action_mode) == ("mine", 5, 8, "residual")
    assert run.iteration_timesteps == 8 * 2
    assert [run.model.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == [0.5, 0.25, 0.0]


def test_a_list_of_a_json_file_is_a_tuple(small_task: Task) -> None:
    """stable-baselines3 takes a pair such as train_freq only as a tuple."""
    entry = SB3Entry("mine", "a paper", SB3_ALGORITHMS["sac"])
    run: Any = entry.make(replace(small_task, num_envs=1), 0, {"train_freq": [2, "episode"], "buffer_size": 50})
    assert run.model.train_freq.frequency == 2 and run.model.train_freq.unit.value == "episode"


def test_a_device_that_is_not_there_is_named(small_task: Task) -> None:
    with pytest.raises(ValueError, match="'abacus' cannot be used here"):
        ENTRY.make(replace(small_task, device="abacus"), 0)


def test_what_it_makes_is_loaded_with_its_changes(small_task: Task, tmp_path: Path) -> None:
    entry = SB3Entry("ppo", "stable-baselines3", SB3_ALGORITHMS["ppo"])
    run = entry.make(small_task, 0, SMALL).learn(32)
    loaded = load_agent(run.save(tmp_path / "run"), trust_paths=True)
    assert (loaded.num_timesteps, loaded.model.n_epochs) == (32, 1)
    assert loaded.sample(5, 0).equal(run.sample(5, 0))
