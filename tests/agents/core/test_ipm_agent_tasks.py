"""The worlds an agent is made for, and those it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from diffusion_env.critics import EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.pretraining import PretrainConfig, pretrain

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)


def test_images_from_a_file_train_end_to_end(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 1, 8, 8))
    np.savez(tmp_path / "images.npz", x=points)
    dataset = load_dataset(tmp_path / "images.npz")
    network = pretrain(dataset, PretrainConfig(num_levels=100, num_updates=30, batch_size=64, width=16, depth=1))
    network.save(tmp_path / "network")
    world = {"dataset": str(tmp_path / "images.npz"), "denoiser": str(tmp_path / "network.safetensors"), "num_steps": 2}
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=world, seed=0).learn(96, log_interval=1)
    assert agent.sample(5).shape == (5, 1, 8, 8)
    action, _ = agent.predict({"x": np.zeros((3, 1, 8, 8), np.float32), "step": np.array([0, 1, 0])})
    assert action.shape == (3, 1, 8, 8)
    assert agent.predict({"x": np.zeros((1, 8, 8), np.float32), "step": np.int64(1)})[0].shape == (1, 8, 8)
    loaded = SFTPG.load(agent.save(tmp_path / "agent"))
    assert torch.equal(loaded.sample(5, seed=0), agent.sample(5, seed=0))
    assert float(loaded.sample(200, seed=0).mean()) == pytest.approx(3.0, abs=1.0)  # data units


def test_a_data_set_without_a_denoiser_says_what_to_do(points_file: Path) -> None:
    with pytest.raises(ValueError, match=r"'points' has no shipped denoiser .*`ddpm-shortcut pretrain"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={"dataset": str(points_file)})


def test_residual_actions_are_refused(small_world: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="acts in action_mode 'step'; received 'residual'"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_world, "action_mode": "residual"})
    assert SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_world, "action_mode": "step"}).num_timesteps == 0


def test_other_environments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "make_vec", lambda env_id, num_envs, **kwargs: CartPoleVectorEnv(num_envs))
    with pytest.raises(TypeError, match="makes a CartPoleVectorEnv; agents train a DDPMShortcutVectorEnv"):
        SFTPG("CartPole-v1", SMALL, 2)


def test_objects_are_used_and_not_copied(make_agent: MakeAgent, gaussian: Dataset, denoiser: EpsMLP) -> None:
    critic = EnergyCritic((2,), width=16)
    agent = make_agent(critic=critic)
    assert agent.critic is critic and agent.pretrained is denoiser
    assert torch.equal(agent.envs.dataset.train, gaussian.train)


def test_no_seed_draws_one(make_agent: MakeAgent) -> None:
    first, second = (make_agent(seed=None) for _ in range(2))
    assert first.seed != second.seed and first.seed >= 0
