"""Where SAC and TD3 start: at mean 0 and at the noise of the pretrained sampler."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.utils import obs_as_tensor
from torch import nn

from agents.sb3.starts import start_at_pretrained, unit_entropy, unit_noise
from agents.sb3.vec_env import DDPMShortcutVecEnv

MakeEnv = Callable[..., DDPMShortcutVecEnv]


@pytest.mark.parametrize("algorithm", [SAC, TD3])
def test_starts_have_mean_zero(make_env: MakeEnv, algorithm: Any) -> None:
    env = make_env(action_mode="residual")
    model = algorithm("MultiInputPolicy", env, seed=0, device="cpu", buffer_size=100)
    observation = env.reset()
    assert np.abs(model.predict(observation, deterministic=True)[0]).min() > 0  # a random network's answer
    start_at_pretrained(model)
    assert not model.predict(observation, deterministic=True)[0].any()
    if algorithm is TD3:
        assert isinstance(model.policy, nn.Module)
        assert not model.actor_target(obs_as_tensor(observation, model.device)).any()


def test_sac_s_actions_have_unit_std(make_env: MakeEnv) -> None:
    env = make_env(num_envs=4_000, action_mode="residual")
    model = SAC("MultiInputPolicy", env, seed=0, device="cpu", buffer_size=10_000)
    before = model.predict(env.reset())[0].std()
    start_at_pretrained(model)
    assert model.predict(env.reset())[0].std() == pytest.approx(1, abs=0.03)
    assert before > 5  # negative control: tanh of a unit normal, stretched to the box


def test_unit_noise_and_entropy(make_env: MakeEnv) -> None:
    env = make_env(action_mode="residual")
    noise = np.stack([unit_noise(env)() for _ in range(4_000)])
    assert noise.shape == (4_000, 2)
    assert 10 * noise.std(0) == pytest.approx([1, 1], abs=0.05)
    normal = torch.distributions.Normal(0.0, 1 / 10)
    assert unit_entropy(env) == pytest.approx(2 * float(normal.entropy()))
