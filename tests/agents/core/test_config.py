"""Configurations: every field is checked, frozen and described; the preset table and the agents by name."""

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import agents
from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
from agents.algorithms.presets import AGENTS, PRESETS, preset
from agents.core.config import AgentConfig, describe
from agents.zoo import agent_class, load_agent
from diffusion_env.checkpoints import CheckpointError
from diffusion_env.critics import make_critic

NAN, INF = float("nan"), float("inf")
COMMON: dict[str, list[Any]] = {
    "n_critic": [0, -1, 1.5, "5", True],
    "n_generator": [0, 2.0],
    "learning_rate": [-1e-3, NAN, INF],
    "critic_learning_rate": [-1.0],
    "value_learning_rate": [INF],
    "adam_beta1": [1.0, -0.1],
    "adam_beta2": [1.0, NAN],
    "lr_schedule": ["cosine", None],
    "max_grad_norm": [0, -0.1, NAN],
    "ema_decay": [1, -0.1, NAN],
    "kl_coef": ["x", True, -0.1, NAN, INF],
    "std": ["free", None],
    "std_lr_scale": [-1.0, INF],
    "min_std": [-0.01, NAN],
    "value_loss_weight": [-1],
    "value_width": [0],
    "value_depth": [0],
}
BAD: dict[type[AgentConfig], dict[str, list[Any]]] = {
    PolicyGradientConfig: {
        **COMMON,
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
    DxDPConfig: {**COMMON, "entropy_coef": [-1.0, NAN], "velocity_coef": [-1.0, INF]},
    PathwiseConfig: {**COMMON, "backprop_steps": [0, -1, 1.5]},
}
CASES = [(kind, name, value) for kind, bad in BAD.items() for name, values in bad.items() for value in values]


@pytest.mark.parametrize(("kind", "name", "value"), CASES)
def test_bad_hyper_parameters_are_named(kind: type[AgentConfig], name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{kind.__name__}\.{name} must be .*; received {value!r}"):
        kind(**{name: value})


@pytest.mark.parametrize("kind", BAD)
def test_every_field_is_checked_frozen_and_described(kind: type[AgentConfig]) -> None:
    config = kind()
    assert set(BAD[kind]) == {field.name for field in fields(config)} - {"gradient_checkpointing"}
    assert all(f"{field.name} = {getattr(config, field.name)!r}" in describe(config) for field in fields(config))
    with pytest.raises(AttributeError):
        config.n_critic = 3  # type: ignore[misc]


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


# --- the table -------------------------------------------------------------------------------------------------------


def test_every_row_names_an_agent_that_takes_its_configuration() -> None:
    assert set(AGENTS) <= set(PRESETS)
    for row in PRESETS.values():
        assert type(row.config) is agent_class(row.agent).config_class
        assert row.source


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_its_module_its_class_and_its_row(name: str) -> None:
    kind = agent_class(name)
    assert kind.name == name and kind is getattr(import_module(f"agents.algorithms.{name}"), AGENTS[name])
    assert getattr(agents, AGENTS[name]) is kind
    assert kind.default_config() == PRESETS[name].config == preset(name)


def test_rows_differ() -> None:
    rows = [(row.agent, row.config) for row in PRESETS.values() if type(row.config) is PolicyGradientConfig]
    assert len({config for _, config in rows}) == len(rows)


def test_a_row_with_changes_leaves_the_row_alone() -> None:
    assert preset("dpok", kl_coef=0.5).kl_coef == 0.5
    assert preset("dpok").kl_coef == PRESETS["dpok"].config.kl_coef != 0.5


def test_unknown_names_list_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown algorithm 'ppo'.*'sft_pg_paper'"):
        preset("ppo")
    with pytest.raises(ValueError, match=r"Unknown agent 'sft_pg_paper'.*'pathwise'"):
        agent_class("sft_pg_paper")
    path = make_critic("energy", (2,)).save(tmp_path / "critic")
    with pytest.raises(CheckpointError, match=r"holds no agent; agents are .*'dxdp'"):
        load_agent(path)


def test_the_package_says_what_it_offers() -> None:
    assert all(getattr(agents, name) is not None for name in agents.__all__)
    assert set(agents.__all__) <= set(dir(agents))
    with pytest.raises(AttributeError, match=r"no attribute 'PPO'; it offers .*SFTPG"):
        _ = agents.PPO
