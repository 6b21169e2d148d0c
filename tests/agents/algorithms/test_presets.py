"""The presets and the agents by name."""

from importlib import import_module
from pathlib import Path

import pytest

import agents
from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import AGENTS, PRESETS, preset
from agents.zoo import agent_class, load_agent
from diffusion_env.checkpoints import CheckpointError
from diffusion_env.critics import make_critic


def test_every_preset_names_an_agent_that_takes_its_configuration() -> None:
    assert set(AGENTS) <= set(PRESETS)
    for named in PRESETS.values():
        assert type(named.config) is agent_class(named.agent).config_class
        assert named.source


@pytest.mark.parametrize("name", AGENTS)
def test_an_agent_is_its_module_its_class_and_its_preset(name: str) -> None:
    kind, (module, class_name) = agent_class(name), AGENTS[name].split(":")
    assert kind.name == name and kind is getattr(import_module(module), class_name)
    assert getattr(agents, class_name) is kind
    assert kind.default_config() == PRESETS[name].config == preset(name)


def test_presets_differ() -> None:
    family = [named.config for named in PRESETS.values() if type(named.config) is PolicyGradientConfig]
    assert len(set(family)) == len(family)


def test_a_preset_with_changes_leaves_the_preset_alone() -> None:
    assert preset("dpok", kl_coef=0.5).kl_coef == 0.5
    assert preset("dpok").kl_coef == PRESETS["dpok"].config.kl_coef != 0.5


def test_unknown_names_list_the_names_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown algorithm 'ppo'.*'sft_pg_paper'"):
        preset("ppo")
    with pytest.raises(ValueError, match=r"Unknown agent 'sft_pg_paper'.*'pathwise'"):
        agent_class("sft_pg_paper")
    path = make_critic("energy", (2,)).save(tmp_path / "critic")
    with pytest.raises(CheckpointError, match=r"holds 'critic', but a 'agent' was to be loaded"):
        load_agent(path)


def test_the_package_says_what_it_offers() -> None:
    assert all(getattr(agents, name) is not None for name in agents.__all__)
    assert set(agents.__all__) <= set(dir(agents))
    with pytest.raises(AttributeError, match=r"no attribute 'PPO'; it offers .*SFTPG"):
        _ = agents.PPO
