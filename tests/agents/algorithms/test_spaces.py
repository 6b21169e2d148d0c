"""What may be tuned of the agents follows from their configuration."""

import pytest

from agents.algorithms.presets import PRESETS
from agents.algorithms.spaces import SHARED, agent_space
from agents.core.config import AgentConfig
from agents.core.spaces import Choice


def test_a_configuration_of_a_user_has_the_space_of_every_agent() -> None:
    assert agent_space(AgentConfig(), 5, 16).keys() == {*SHARED, "ema_decay"}
    assert agent_space(AgentConfig(kl_coef=0.1), 5, 16).keys() == {*SHARED, "ema_decay", "kl_coef"}


@pytest.mark.parametrize(("num_steps", "steps"), [(10, (None, 1, 2, 5)), (2, (None, 1)), (1, None)])
def test_gradients_run_through_steps_that_there_are(num_steps: int, steps: tuple[int | None, ...] | None) -> None:
    parameter = agent_space(PRESETS["pathwise"].config, num_steps, 16).get("backprop_steps")
    assert parameter == (None if steps is None else Choice(steps))


def test_groups_divide_the_batch() -> None:
    assert agent_space(PRESETS["grpo"].config, 10, 16)["group_size"] == Choice((4, 8, 16))
    assert agent_space(PRESETS["grpo"].config, 10, 24)["group_size"] == Choice((4, 8))
