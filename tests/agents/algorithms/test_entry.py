"""A class of agents before it is made."""

from dataclasses import asdict
from typing import Any

import pytest

from agents import DDPO, SFTPG
from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.entry import OwnEntry
from agents.algorithms.presets import preset
from agents.core.task import Task
from agents.zoo import find

ENTRY = OwnEntry("mine", "a paper", SFTPG, PolicyGradientConfig())


def test_its_settings_are_the_configuration_with_changes() -> None:
    assert ENTRY.defaults == ENTRY.settings({}) == asdict(PolicyGradientConfig())
    assert ENTRY.settings({"n_critic": 9}) == asdict(PolicyGradientConfig(n_critic=9))
    with pytest.raises(ValueError, match="n_critic must be an integer >= 1"):
        ENTRY.settings({"n_critic": 0})


def test_it_makes_the_agent_for_the_task(small_task: Task) -> None:
    agent: Any = ENTRY.make(small_task, 5, {"n_critic": 9})
    assert isinstance(agent, SFTPG)
    assert (agent.seed, agent.num_envs, agent.config.n_critic, agent.task) == (5, 8, 9, small_task)
    assert agent.iteration_timesteps == 9 * 8 * 2
    assert agent.env_kwargs == small_task.env_kwargs


def test_a_class_given_as_it_is_starts_from_its_own_defaults() -> None:
    assert find(DDPO).settings({}) == asdict(preset("ddpo"))


def test_a_device_that_is_not_there_is_named(small_task: Task) -> None:
    from dataclasses import replace

    with pytest.raises(ValueError, match="'abacus' cannot be used here"):
        ENTRY.make(replace(small_task, device="abacus"), 0)
