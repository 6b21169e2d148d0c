"""Configurations of the algorithms: every field is checked, frozen and described."""

import re
from dataclasses import fields
from typing import Any

import pytest

from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
from agents.core.config import AgentConfig, describe

NAN, INF = float("nan"), float("inf")
BAD: dict[type[AgentConfig], dict[str, list[Any]]] = {
    PolicyGradientConfig: {
        "minibatch_size": [0, -128, 12.5],
        "baseline": ["critic", None],
        "gae_lambda": [-0.1, 1.1],
        "group_size": [0, 1, 2.5],
        "surrogate": ["ppo"],
        "clip_range": [0, -0.1, NAN],
        "temperature": [0, -1.0, INF],
        "advantage_normalization": ["yes", True],
        "advantage_std_floor": [0, -1.0],
        "step_weight": ["snr"],
    },
    DxDPConfig: {"entropy_coef": [-1.0, NAN], "velocity_coef": [-1.0, INF]},
    PathwiseConfig: {"backprop_steps": [0, -1, 1.5]},
}
CASES = [(kind, name, value) for kind, bad in BAD.items() for name, values in bad.items() for value in values]


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_bad_hyper_parameters_are_named(kind: type[AgentConfig], name: str, value: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=rf"{kind.__name__}\.{name} must be .*; received {re.escape(repr(value))}"
    ):
        kind(**{name: value})


@pytest.mark.parametrize("kind", BAD)
def test_every_field_is_checked_frozen_and_described(kind: type[AgentConfig]) -> None:
    config = kind()
    own = {field.name for field in fields(config)} - {field.name for field in fields(AgentConfig)}
    assert set(BAD[kind]) == own - {"gradient_checkpointing"}
    assert all(f"{field.name} = {getattr(config, field.name)!r}" in describe(config) for field in fields(config))
    with pytest.raises(AttributeError):
        config.n_critic = 3  # type: ignore[misc]
    with pytest.raises(ValueError, match=r"n_critic must be an integer >= 1; received 0"):
        kind(n_critic=0)


def test_the_ends_of_the_ranges_are_allowed() -> None:
    config = PolicyGradientConfig(
        learning_rate=0, minibatch_size=1, max_grad_norm=None, ema_decay=0, gae_lambda=0, group_size=2
    )
    assert (config.minibatch_size, config.group_size) == (1, 2)
    assert PathwiseConfig(backprop_steps=1).backprop_steps == 1


@pytest.mark.parametrize("option", ["baseline", "advantage_normalization"])
def test_groups_need_a_size(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option}='group'.*but group_size is None. Give group_size"):
        PolicyGradientConfig(**{option: "group"})  # type: ignore[arg-type]
    assert PolicyGradientConfig(**{option: "group"}, group_size=4).group_size == 4  # type: ignore[arg-type]
