"""The single environment: Gymnasium's and stable-baselines3's contracts, and seeding."""

import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded

from diffusion_env.critics import Critic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.process import ActionMode
from diffusion_env.unseen_samples import CRITIC_BATCH
from tests.support import ENV_ID, single_actions, single_episode


class TestContract:
    @pytest.mark.parametrize("num_steps", [1, 2, 10])
    @pytest.mark.parametrize("mode", ["step", "residual"])
    def test_checkers(self, num_steps: int, mode: ActionMode) -> None:
        from gymnasium.utils.env_checker import check_env
        from stable_baselines3.common.env_checker import check_env as check_sb3

        made = gym.make(ENV_ID, dataset="gaussians8", num_steps=num_steps, action_mode=mode, render_mode="rgb_array")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(Box action|Box observation|unconventional shape)")
            check_env(made.unwrapped, skip_render_check=num_steps > 1)
            check_sb3(made.unwrapped, skip_render_check=True)

    def test_registration(self) -> None:
        spec = gym.spec(ENV_ID)
        assert spec.max_episode_steps is None and spec.vector_entry_point
        assert isinstance(gym.make(f"diffusion_env:{ENV_ID}").unwrapped, DDPMShortcutEnv)

    def test_spaces(self, env: DDPMShortcutEnv) -> None:
        assert env.action_space == gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
        assert env.observation_space == gym.spaces.Dict(
            x=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), step=gym.spaces.Discrete(4)
        )

    def test_an_episode(self, env: DDPMShortcutEnv) -> None:
        obs, info = env.reset(seed=0)
        assert info == {} and obs["step"] == 0
        for k, action in enumerate(single_actions(env, 3)):
            obs, reward, terminated, truncated, info = env.step(action)
            assert env.observation_space.contains(obs) and obs["step"] == k + 1
            assert terminated is (k == 2) and truncated is False and isinstance(reward, float)
            assert (reward != 0.0) is terminated and bool(info) is terminated
        assert reward == pytest.approx(info["critic_score"] - info["data_score"], abs=1e-6)
        with torch.no_grad():
            assert info["critic_score"] == pytest.approx(float(env.critic(torch.tensor(obs["x"]))), abs=1e-6)
        with pytest.raises(ResetNeeded, match="Call reset"):
            env.step(action)

    def test_public_attributes(self, env: DDPMShortcutEnv, ring: Dataset, oracle: MixtureDenoiser) -> None:
        assert env.dataset.name == ring.name and env.denoiser is oracle and env.table.num_steps == 3
        assert isinstance(env.critic, Critic)

    def test_pickle_goes_on_with_the_same_bits(self, env: DDPMShortcutEnv) -> None:
        env.reset(seed=0)
        first, *rest = single_actions(env, 3)
        env.step(first)
        copy = pickle.loads(pickle.dumps(env))
        for action in rest:
            ours, theirs = env.step(action), copy.step(action)
            np.testing.assert_array_equal(ours[0]["x"], theirs[0]["x"])
        assert ours[1] == theirs[1] != 0.0
        np.testing.assert_array_equal(env.reset()[0]["x"], copy.reset()[0]["x"])

    def test_spec_survives_json(self) -> None:
        made = gym.make(ENV_ID, dataset="gaussians8", num_steps=2, critic="mmd", sampler="ddim")
        assert made.spec is not None
        again = gym.make(EnvSpec.from_json(made.spec.to_json()))
        assert again.spec == made.spec and again.unwrapped.critic.name == "mmd"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(single_episode(made, 3)[0], single_episode(again, 3)[0])

    def test_what_is_returned_is_the_user_s(self, env: DDPMShortcutEnv) -> None:
        expected = single_episode(env, 0)[0]
        obs, _ = env.reset(seed=0)
        kept = [(obs["x"], obs["x"].copy())]
        for action in single_actions(env, 3):
            obs = env.step(action)[0]
            action[:] = 1e3  # the process must not look at it again
            kept.append((obs["x"], obs["x"].copy()))
        assert all(np.array_equal(x, copy) for x, copy in kept)
        obs, _ = env.reset(seed=0)
        obs["x"][:] = 1e3
        np.testing.assert_array_equal(env.step(single_actions(env, 1)[0])[0]["x"], expected[1])


class TestSeeding:
    @pytest.mark.parametrize("mode", ["step", "residual"])
    @pytest.mark.parametrize("critic", ["energy", "gradient_penalty", "baseline"])
    def test_same_seed_same_bits(self, ring: Dataset, oracle: MixtureDenoiser, mode: ActionMode, critic: str) -> None:
        made = DDPMShortcutEnv(ring, num_steps=2, action_mode=mode, denoiser=oracle, critic=critic)
        first, second, other = single_episode(made, 7), single_episode(made, 7), single_episode(made, 8)
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
        assert not np.array_equal(first[0], other[0]) and first[1] != other[1]

    def test_the_seed_restarts_a_trained_critic_given_by_name(self, ring: Dataset) -> None:
        given = make_critic("energy", ring.shape)
        for critic, restarts in (("energy", True), (given, False)):
            made = DDPMShortcutEnv(ring, num_steps=1, critic=critic)
            first = single_episode(made, 0)[1]
            for _ in range(CRITIC_BATCH - 1):
                single_episode(made)
            assert made.process.critic_metrics
            assert (single_episode(made, 0)[1] == first) is restarts

    def test_reset_without_a_seed_goes_on(self, env: DDPMShortcutEnv) -> None:
        starts = [env.reset(seed=0)[0]["x"], env.reset()[0]["x"], env.reset()[0]["x"]]
        assert len({x.tobytes() for x in starts}) == 3

    def test_unseeded_environments_differ(self, ring: Dataset) -> None:
        starts = [DDPMShortcutEnv(ring).reset()[0]["x"] for _ in range(2)]
        assert not np.array_equal(*starts)
