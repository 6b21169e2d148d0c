"""An agent whose critic is named with keywords: saved with them, and made again from them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from agents import SFTPG
from agents.algorithms.config import PolicyGradientConfig

CONFIG = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)
KEYWORDS = {"gamma": 0.7, "width": 24, "body": "mlp"}


def test_a_saved_agent_keeps_them(small_kwargs: dict[str, Any], tmp_path: Path) -> None:
    kwargs = {**small_kwargs, "critic": "energy", "critic_kwargs": KEYWORDS}
    agent = SFTPG(config=CONFIG, num_envs=8, env_kwargs=kwargs, seed=0).learn(2 * 2 * 8 * 2)
    loaded = SFTPG.load(agent.save(tmp_path / "agent"), trust_paths=True)
    config = loaded.envs.critic.config
    assert KEYWORDS.items() <= config.items() and config == agent.envs.critic.config
    x = torch.ones(3, 2)
    assert torch.equal(loaded.envs.critic(x), agent.envs.critic(x))


def test_wrong_ones_are_refused(small_kwargs: dict[str, Any]) -> None:
    kwargs = {**small_kwargs, "critic": "mmd", "critic_kwargs": KEYWORDS}
    with pytest.raises(ValueError, match="The critic 'mmd' takes, with defaults, bandwidths: "):
        SFTPG(config=CONFIG, num_envs=8, env_kwargs=kwargs)
