"""Samples of a model, drawn beside its training and not in its way."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from agents.sb3.samplers import environment_in, sb3_sampler
from agents.sb3.starts import start_at_pretrained, unit_noise
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.samplers.walk import sample as walk_of_the_table
from tests.support import small_ppo

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_STEPS = 3


def states(env: DDPMShortcutVecEnv) -> dict[str, Any]:
    """All that a sampler must leave alone, as comparable bytes."""
    process, numpy_state = env.envs.process, repr(np.random.get_state())  # noqa: NPY002
    tensors = {"torch": torch.get_rng_state(), "generator": process.generator.get_state(), "x": process.x}
    return {"numpy": numpy_state, "k": process.k.tolist(), **{k: v.tolist() for k, v in tensors.items()}}


@pytest.mark.parametrize("algorithm", ["ppo", "td3"])
def test_no_random_state_and_no_environment_moves(make_env: MakeEnv, algorithm: str) -> None:
    env = make_env(action_mode="residual")
    model = small_ppo(env) if algorithm == "ppo" else td3(env)
    model.learn(NUM_STEPS * env.num_envs)
    before = states(env)
    sb3_sampler(model)(10, 0)
    assert states(env) == before
    torch.rand(1), np.random.rand(), env.reset()  # noqa: NPY002
    after = states(env)
    assert all(after[name] != before[name] for name in ("torch", "numpy", "generator", "x"))


def test_the_seed_fixes_the_samples(make_env: MakeEnv) -> None:
    draw = sb3_sampler(small_ppo(make_env()))
    first = draw(10, 0)
    torch.rand(3)
    assert first.shape == (10, 2) and first.dtype == torch.float32
    assert torch.equal(draw(10, 0), first)
    assert not torch.equal(draw(10, 1), first)


def test_it_uses_the_newest_weights(make_env: MakeEnv) -> None:
    model = small_ppo(make_env())
    draw = sb3_sampler(model)
    before = draw(10, 0)
    model.learn(2 * NUM_STEPS * 6)
    assert not torch.equal(draw(10, 0), before)


def test_samples_are_in_data_units(small_kwargs: dict[str, Any]) -> None:
    """A file's points are standardised: the same walk ends elsewhere in data units."""
    env = DDPMShortcutVecEnv(num_envs=2, env_kwargs=small_kwargs)
    draw, data = sb3_sampler(small_ppo(env)), env.dataset
    ends: list[Tensor] = []
    to_data = data.to_data

    def watched(x: Tensor) -> Tensor:
        ends.append(x)
        return to_data(x)

    object.__setattr__(data, "to_data", watched)
    samples = draw(5, 0)
    assert torch.equal(samples, to_data(ends[-1]))
    assert not torch.equal(samples, ends[-1])


def test_deterministic_leaves_the_policy_s_noise_out(make_env: MakeEnv) -> None:
    model = small_ppo(make_env(num_steps=1))
    noisy, still = (sb3_sampler(model, deterministic=d)(2_000, 0) for d in (False, True))
    assert still.std(0).max() < noisy.std(0).min()


def td3(env: DDPMShortcutVecEnv) -> TD3:
    model = TD3("MultiInputPolicy", env, action_noise=unit_noise(env), seed=0, device="cpu", buffer_size=1_000)
    start_at_pretrained(model)
    return model


def test_td3_samples_with_its_action_noise(make_env: MakeEnv) -> None:
    """Actions of mean 0 and unit noise are the pretrained sampler."""
    env = make_env(action_mode="residual")
    model = td3(env)
    assert env.denoiser is not None
    pretrained = walk_of_the_table(env.table, env.denoiser, 5_000, torch.Generator().manual_seed(0))
    noisy, still = (sb3_sampler(model, deterministic=d)(5_000, 0) for d in (False, True))
    torch.testing.assert_close(noisy.std(0), pretrained.std(0), rtol=0.04, atol=0)
    assert still.std(0).max() < 0.8 * pretrained.std(0).min()
    model.learn(12)  # SB3 puts a noise of many environments in its place
    assert sb3_sampler(model)(7, 0).shape == (7, 2)


@pytest.mark.parametrize("normalize", [False, True])
def test_any_environment_of_sb3_serves(keywords: dict[str, Any], normalize: bool) -> None:
    env: Any = DummyVecEnv([lambda: gym.make("DDPMShortcut-v0", **keywords)])
    if normalize:
        env = VecNormalize(env, norm_obs_keys=["x"])
        env.obs_rms["x"].mean = np.array([50.0, 50.0])
    model = small_ppo(env)
    assert environment_in(env).dataset.train is keywords["dataset"].train
    samples = sb3_sampler(model, deterministic=True)(50, 0)
    plain = sb3_sampler(model, deterministic=True)
    assert samples.isfinite().all()
    if normalize:  # what the policy sees decides what it does
        env.obs_rms["x"].mean = np.array([0.0, 0.0])
        assert not torch.equal(plain(50, 0), samples)


def test_another_environment_is_refused() -> None:
    model = PPO("MlpPolicy", "CartPole-v1", device="cpu")
    with pytest.raises(TypeError, match="received one of CartPoleEnv"):
        sb3_sampler(model)
    with pytest.raises(TypeError, match="received one of NoneType"):
        environment_in(None)
