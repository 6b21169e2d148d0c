"""The configuration of every agent: each field is checked, frozen and described; another class is refused."""

import re
from dataclasses import dataclass, fields
from typing import Any

import pytest

from agents.core.config import AgentConfig, checked_config, describe

NAN, INF = float("nan"), float("inf")
BAD: dict[str, list[Any]] = {
    "n_critic": [0, -1, 1.5, "5", True],
    "n_critic_exponent": [-0.5, INF, 10**12],
    "n_generator": [0, 2.0],
    "learning_rate": [-1e-3, NAN, INF],
    "learning_rate_exponent": [-0.5, NAN, 10**12],
    "critic_learning_rate": [-1.0],
    "critic_data_batch": [0, 1.5],
    "critic_slope_penalty": [-1.0, "x"],
    "value_learning_rate": [INF],
    "adam_beta1": [1.0, -0.1],
    "adam_beta2": [1.0, NAN],
    "lr_schedule": ["cosine", None],
    "critic_lr_schedule": ["cosine"],
    "max_grad_norm": [0, -0.1, NAN],
    "ema_decay": [1, -0.1, NAN],
    "ema_width": [0, 0.3, NAN],
    "deployed_std": ["wide", 0],
    "reward": ["f", None],
    "kl_coef": ["x", True, -0.1, NAN, INF],
    "std": ["free", None],
    "std_lr_scale": [-1.0, INF],
    "min_std": [-0.01, NAN],
    "value_loss_weight": [-1],
    "value_width": [0],
    "value_depth": [0],
    "value_body": [3, b"conv"],
    "compile": [1, "yes", None],
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_bad_hyper_parameters_are_named(name: str, value: Any) -> None:
    with pytest.raises(
        (TypeError, ValueError), match=rf"AgentConfig\.{name} must be .*; received {re.escape(repr(value))}"
    ):
        AgentConfig(**{name: value})


def test_every_field_is_checked_frozen_and_described() -> None:
    config = AgentConfig()
    assert set(BAD) == {field.name for field in fields(config)}
    assert all(f"{field.name} = {getattr(config, field.name)!r}" in describe(config) for field in fields(config))
    with pytest.raises(AttributeError):
        config.n_critic = 3  # type: ignore[misc]


@dataclass(frozen=True)
class OtherConfig(AgentConfig):
    weight: float = 1.0


def test_a_configuration_of_its_class_passes_and_none_stays_none() -> None:
    config = OtherConfig(weight=2.0)
    assert checked_config(config, OtherConfig, "Mine") is config
    assert checked_config(None, OtherConfig, "Mine") is None


@pytest.mark.parametrize("other", [AgentConfig(), 3, "sft_pg"])
def test_another_class_is_refused_in_words(other: Any) -> None:
    received = f"Mine takes a OtherConfig; received a {type(other).__name__}.*make a OtherConfig.*Mine.default_config"
    with pytest.raises(TypeError, match=received):
        checked_config(other, OtherConfig, "Mine")
    with pytest.raises(TypeError, match="takes a AgentConfig; received a OtherConfig"):
        checked_config(OtherConfig(), AgentConfig, "Mine")  # its own fields would be lost when the run is loaded


def test_a_dict_is_refused_with_the_words_to_write() -> None:
    with pytest.raises(TypeError, match=r"received a dict.*write OtherConfig\(\*\*config\)"):
        checked_config({"weight": 2.0}, OtherConfig, "Mine")


@pytest.mark.parametrize(("num_steps", "rollouts"), [(1, 1), (2, 1), (4, 2), (10, 3), (20, 4)])
def test_settings_that_follow_the_number_of_steps(num_steps: int, rollouts: int) -> None:
    config = AgentConfig(n_critic=1, n_critic_exponent=0.5, learning_rate=3e-3, learning_rate_exponent=1.0)
    assert config.at_steps(num_steps) == (rollouts, pytest.approx(3e-3 / num_steps))
    assert AgentConfig().at_steps(num_steps) == (AgentConfig().n_critic, AgentConfig().learning_rate)


@pytest.mark.parametrize("changes", [{"ema_width": 0.1}, {"ema_decay": None}])
def test_the_average_has_one_width(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"either ema_decay or ema_width.*received ema_decay=.* and ema_width="):
        AgentConfig(**changes)
    assert AgentConfig(ema_decay=None, ema_width=0.1).ema_width == 0.1
