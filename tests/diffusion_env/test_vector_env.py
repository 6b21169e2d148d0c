"""The vector environment: one law with the single one, seeding, Gymnasium's entry points, critics, resuming."""

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from diffusion_env.critics import CRITICS, FrozenCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.vector_env import DDPMShortcutVectorEnv
from tests.support import ENV_ID, Step, assert_same_steps, final_x, make_vector, vector_actions

SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


class TestOneLaw:
    EPISODES = 400

    def outcomes(self, envs: Any, scale: float) -> NDArray[np.float64]:
        """The first coordinate of each finished sample and each return, (2, EPISODES), under actions scale * z."""
        rng, rows = np.random.default_rng(1), []
        envs.reset(seed=2)
        shape = (envs.num_envs, 2) if isinstance(envs, DDPMShortcutVectorEnv) else (2,)
        for _ in range(2 * self.EPISODES // (shape[0] if len(shape) == 2 else 1)):
            obs, reward, terminated, _, infos = envs.step(scale * rng.standard_normal(shape).astype(np.float32))
            if np.all(terminated):
                x = final_x(infos) if len(shape) == 2 else obs["x"]
                rows.append(np.stack([x[..., 0], np.asarray(reward)]).reshape(2, -1))
                if len(shape) == 1:
                    envs.reset()
        return np.concatenate(rows, 1)

    def test_single_and_vector(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        arguments: dict[str, Any] = {
            "dataset": ring,
            "num_steps": 2,
            "action_mode": "residual",
            "denoiser": oracle,
            "critic": FrozenCritic(lambda x: x.square().sum(-1), ring.shape),
        }
        single = self.outcomes(DDPMShortcutEnv(**arguments), 1.0)
        for num_envs in (1, 40):
            vector = self.outcomes(DDPMShortcutVectorEnv(num_envs, **arguments), 1.0)
            other = self.outcomes(DDPMShortcutVectorEnv(num_envs, **arguments), 2.0)
            assert single.shape == vector.shape == other.shape == (2, self.EPISODES)
            assert min(ks_2samp(s, v).pvalue for s, v in zip(single, vector, strict=True)) > 0.01
            assert ks_2samp(single[1], other[1]).pvalue < 1e-4  # control: other actions, another law

    def test_the_same_start_and_actions_give_the_same_sample(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        arguments: dict[str, Any] = {"num_steps": 3, "action_mode": "residual", "denoiser": oracle}
        envs, env = make_vector(ring, **arguments), DDPMShortcutEnv(ring, **arguments)
        starts, _ = envs.reset(seed=0)
        plan = vector_actions(3)
        for action in plan:
            infos = envs.step(action)[4]
        for i in range(3):
            env.reset(seed=i)
            env.process.x = torch.from_numpy(starts["x"][i : i + 1].copy())
            for action in plan[:, i]:
                obs = env.step(action)[0]
            np.testing.assert_allclose(infos["final_obs"][i]["x"], obs["x"], rtol=1e-5, atol=1e-5)


class TestSeeding:
    @pytest.mark.parametrize("mode", ["step", "residual"])
    def test_same_seed_same_bits(self, ring: Dataset, oracle: MixtureDenoiser, mode: str) -> None:
        envs = make_vector(ring, 130, action_mode=mode, denoiser=oracle)

        def run(seed: int) -> list[Step]:
            envs.reset(seed=seed)
            return [envs.step(action) for action in vector_actions(6, 130)]

        first, second, other = run(0), run(0), run(1)
        assert envs.process.critic_metrics
        assert_same_steps(first, second)
        assert not np.array_equal(first[0][0]["x"], other[0][0]["x"])

    @pytest.mark.parametrize("seed", [[0, 1, 2], -1, 1.5, True, "0"])
    def test_other_seeds(self, ring: Dataset, seed: Any) -> None:
        with pytest.raises(TypeError, match="seed must be a non-negative int"):
            make_vector(ring).reset(seed=seed)


class TestGymnasium:
    def test_make_vec(self) -> None:
        envs = gym.make_vec(ENV_ID, num_envs=5, dataset="gaussians8", num_steps=2)
        assert isinstance(envs.unwrapped, DDPMShortcutVectorEnv) and envs.num_envs == 5
        assert envs.metadata["autoreset_mode"] is SAME and DDPMShortcutVectorEnv.metadata["autoreset_mode"] is SAME
        assert envs.reset(seed=0)[0]["x"].shape == (5, 2)

    def test_make_vec_sync(self) -> None:
        envs = gym.make_vec(ENV_ID, num_envs=2, vectorization_mode="sync", dataset="gaussians8", num_steps=1)
        envs.reset(seed=0)
        assert envs.step(vector_actions(1, 2)[0])[2].all()

    def test_spec_survives_json(self) -> None:
        made = gym.make_vec(ENV_ID, num_envs=2, dataset="gaussians8", num_steps=1, autoreset_mode="Disabled")
        assert made.spec is not None
        again = gym.make_vec(EnvSpec.from_json(made.spec.to_json()))
        assert again.metadata["autoreset_mode"] is DISABLED
        np.testing.assert_array_equal(made.reset(seed=0)[0]["x"], again.reset(seed=0)[0]["x"])

    def test_pickle(self, ring: Dataset) -> None:
        envs = make_vector(ring, 130)
        envs.reset(seed=0)
        copy = pickle.loads(pickle.dumps(envs))
        assert_same_steps(*[[made.step(action) for action in vector_actions(4, 130)] for made in (envs, copy)])

    def test_statistics_wrapper(self, ring: Dataset) -> None:
        envs = gym.wrappers.vector.RecordEpisodeStatistics(make_vector(ring))
        envs.reset(seed=0)
        for action in vector_actions(2):
            reward, infos = (step := envs.step(action))[1], step[4]
        np.testing.assert_allclose(infos["episode"]["r"], reward)
        assert infos["episode"]["l"].tolist() == [2, 2, 2]


class TestCritics:
    @pytest.mark.parametrize("num_envs", [50, 128])
    @pytest.mark.parametrize("critic", [name for name in CRITICS if name != "frozen"])
    def test_every_critic_learns(self, ring: Dataset, critic: str, num_envs: int) -> None:
        envs = make_vector(ring, num_envs, critic=critic)
        envs.reset(seed=0)
        updates = []
        for action in vector_actions(6, num_envs):
            reward = envs.step(action)[1]
            updates.append(bool(envs.process.critic_metrics))
        assert updates == [False] * (1 if num_envs == 128 else 5) + [True] * (5 if num_envs == 128 else 1)
        assert np.isfinite(reward).all()

    def test_baseline_takes_particles_out_of_phase(self, ring: Dataset) -> None:
        envs = make_vector(ring, 130, critic="baseline", autoreset_mode=NEXT)
        envs.reset(seed=0)
        first, *rest = vector_actions(6, 130)
        envs.step(first)
        envs.reset(options={"reset_mask": np.arange(130) % 2 == 0})
        for action in rest:
            envs.step(action)
        assert np.isfinite(list(envs.process.critic_metrics.values())).all()

    def test_an_agent_may_train_it(self, ring: Dataset) -> None:
        envs = make_vector(ring, train_critic=False)
        envs.reset(seed=0)
        assert envs.data_batch().shape == (128, 2)
        metrics = envs.update_critic(torch.zeros(5, 2))
        assert metrics["ipm"] == envs.process.critic_metrics["ipm"]

    def test_resume(self, ring: Dataset) -> None:
        envs, resumed = make_vector(ring, 130), make_vector(ring, 130)
        envs.reset(seed=0)
        plan = vector_actions(5, 130)
        envs.step(plan[0])
        resumed.load_state_dict(envs.state_dict())
        resumed.critic.load_state_dict(envs.critic.state_dict())
        assert_same_steps(*[[made.step(action) for action in plan[1:]] for made in (envs, resumed)])
        np.testing.assert_array_equal(envs.reset()[0]["x"], resumed.reset()[0]["x"])
