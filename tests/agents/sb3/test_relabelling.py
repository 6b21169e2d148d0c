"""Sampled episode ends carry the newest critic's opinion, or the stored one, as asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecNormalize

from agents.sb3.relabelling import DATA_BATCH, NewestReward, RelabellingReplayBuffer, relabelling_kwargs
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.critics import EnergyCritic

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_STEPS = 3


@pytest.fixture
def env(make_env: MakeEnv) -> DDPMShortcutVecEnv:
    return make_env(critic=EnergyCritic((2,), width=8), train_critic=False)


def make_sac(env: Any, **kwargs: Any) -> SAC:
    small: dict[str, Any] = {"net_arch": [8]}
    kwargs = {"learning_starts": 6, "batch_size": 8, "buffer_size": 240, **kwargs}
    return SAC("MultiInputPolicy", env, policy_kwargs=small, seed=0, device="cpu", **kwargs)


def filled(env: DDPMShortcutVecEnv, relabel: bool) -> RelabellingReplayBuffer:
    """A buffer of two episodes of each environment, and then a critic that changed."""
    model = make_sac(env, learning_starts=1_000, **relabelling_kwargs(env, relabel))
    model.learn(2 * NUM_STEPS * env.num_envs)
    assert isinstance(model.replay_buffer, RelabellingReplayBuffer)
    move(env)
    return model.replay_buffer


def move(env: DDPMShortcutVecEnv) -> None:
    with torch.no_grad():
        for weight in env.critic.parameters():
            weight.add_(0.3)


def test_relabelled_rewards_are_the_newest_critic_s(env: DDPMShortcutVecEnv) -> None:
    buffer = filled(env, relabel=True)
    draws = torch.Generator()
    draws.set_state(buffer.reward.generator.get_state())
    batch = buffer.sample(200)
    ended = batch.dones[:, 0] > 0
    assert 20 < int(ended.sum()) < 180
    with torch.no_grad():
        mean = env.critic(env.dataset.sample(DATA_BATCH, draws)).mean()
        wanted = env.critic(batch.next_observations["x"]) - mean
    torch.testing.assert_close(batch.rewards[ended, 0], wanted[ended])
    assert not batch.rewards[~ended].any()
    assert batch.rewards.shape == (200, 1)


def stored_and_sampled(env: DDPMShortcutVecEnv, relabel: bool) -> tuple[set[float], set[float]]:
    buffer = filled(env, relabel)
    batch = buffer.sample(200)
    return set(buffer.rewards.ravel().tolist()), set(batch.rewards.ravel().tolist())


def test_without_the_option_rewards_stay_as_stored(env: DDPMShortcutVecEnv) -> None:
    stored, sampled = stored_and_sampled(env, relabel=False)
    assert sampled <= stored


def test_negative_control_with_the_option_they_do_not(env: DDPMShortcutVecEnv) -> None:
    stored, sampled = stored_and_sampled(env, relabel=True)
    assert sampled & stored == {0.0}


def test_the_environment_draws_what_it_draws_without(env: DDPMShortcutVecEnv) -> None:
    state = env.envs.process.generator.get_state()
    reward, x0 = NewestReward(env), torch.zeros(4, 2)
    first = reward(x0)
    assert torch.equal(env.envs.process.generator.get_state(), state)
    assert first.shape == (4,) and not first.requires_grad
    assert not torch.equal(reward(x0), first)  # another data batch
    assert torch.equal(NewestReward(env)(x0), first)
    assert not torch.equal(NewestReward(env, seed=1)(x0), first)


def test_a_saved_model_leaves_the_environment_behind(env: DDPMShortcutVecEnv, tmp_path: Path) -> None:
    model = make_sac(env, **relabelling_kwargs(env))
    model.learn(12)
    model.save(tmp_path / "sac")
    model.save_replay_buffer(tmp_path / "replay")
    torn = SAC.load(tmp_path / "sac", env=env, device="cpu")
    with pytest.raises(RuntimeError, match=r"SAC.load\(path, env=env, \*\*relabelling_kwargs\(env\)\)"):
        torn.learn(24)
    whole = SAC.load(tmp_path / "sac", env=env, device="cpu", **relabelling_kwargs(env))
    whole.learn(24)
    whole.load_replay_buffer(tmp_path / "replay")
    assert isinstance(whole.replay_buffer, RelabellingReplayBuffer)
    whole.replay_buffer.reward = NewestReward(env)
    assert whole.replay_buffer.sample(8).rewards.shape == (8, 1)


def test_normalised_samples_cannot_be_scored(env: DDPMShortcutVecEnv) -> None:
    normalised = VecNormalize(env, norm_obs_keys=["x"])
    with pytest.raises(ValueError, match="VecNormalize"):
        make_sac(normalised, **relabelling_kwargs(env)).learn(24)
    make_sac(normalised, **relabelling_kwargs(env, relabel=False)).learn(24)


def test_images(image_kwargs: dict[str, Any]) -> None:
    env = DDPMShortcutVecEnv(num_envs=4, env_kwargs={**image_kwargs, "critic": EnergyCritic((1, 4, 4), width=8)})
    model = make_sac(env, **relabelling_kwargs(env))
    model.learn(24)
    assert model.replay_buffer is not None
    assert np.isfinite(model.replay_buffer.sample(8).rewards.numpy()).all()
