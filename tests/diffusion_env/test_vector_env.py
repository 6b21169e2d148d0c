"""The vector environment: Gymnasium's three modes, one law with the single environment, numpy and torch."""

import pickle
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray
from scipy.stats import ks_2samp

from diffusion_env.critics import CRITICS, FrozenCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.vector_env import DDPMShortcutVectorEnv

ID = "DDPMShortcut-v0"
SAME, NEXT, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED
Step = tuple[Any, Any, Any, Any, dict[str, Any]]


def make_vector(data: Dataset, num_envs: int = 3, num_steps: int = 2, **kwargs: Any) -> DDPMShortcutVectorEnv:
    return DDPMShortcutVectorEnv(num_envs, data, num_steps, **kwargs)


def actions(n: int, num_envs: int = 3, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((n, num_envs, 2)).astype(np.float32)


def leaves(nested: Any) -> Iterator[Any]:
    """Every array of an observation or of infos."""
    if isinstance(nested, dict):
        for value in nested.values():
            yield from leaves(value)
    else:
        yield nested


def assert_same_steps(ours: list[Step], theirs: list[Step]) -> None:
    for left, right in zip(ours, theirs, strict=True):
        pairs = zip(left, right, strict=True)
        for a, b in [pair for one, other in pairs for pair in zip(leaves(one), leaves(other), strict=True)]:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class TestAutoreset:
    """Step by step beside Gymnasium's own SyncVectorEnv of n single environments."""

    OUT_OF_PHASE = np.array([False, True, False])

    def beside(self, data: Dataset, mode: AutoresetMode, num_steps: int) -> Iterator[tuple[Step, Step]]:
        """Pairs of equal calls' results; one environment is restarted early, so that they run out of phase."""
        ours: gym.vector.VectorEnv[Any, Any, Any] = make_vector(data, num_steps=num_steps, autoreset_mode=mode)
        singles = [lambda: gym.make(ID, dataset=data, num_steps=num_steps)] * 3
        both = ours, SyncVectorEnv(singles, autoreset_mode=mode)
        ended = np.ones(3, bool)
        for envs in both:
            envs.reset(seed=0)
        for i, action in enumerate(actions(10)):
            if i == 1 or (mode is DISABLED and ended.any()):
                mask = self.OUT_OF_PHASE if i == 1 and not ended.any() else ended
                resets = [envs.reset(options={"reset_mask": mask.copy()}) for envs in both]
                assert resets[0][1] == resets[1][1] == {}
                np.testing.assert_array_equal(resets[0][0]["step"], resets[1][0]["step"])
            left, right = (envs.step(action) for envs in both)
            ended = left[2]
            yield left, right

    @pytest.mark.parametrize("num_steps", [1, 2, 3])
    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_flags_counters_and_infos(self, ring: Dataset, mode: AutoresetMode, num_steps: int) -> None:
        phases = set()
        for left, right in self.beside(ring, mode, num_steps):
            for ours, theirs in zip(left[1:4], right[1:4], strict=True):
                assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
            np.testing.assert_array_equal(left[0]["step"], right[0]["step"])
            np.testing.assert_array_equal(left[1] != 0, right[1] != 0)  # rewards come at the same places
            np.testing.assert_array_equal(left[2], right[2])
            assert not left[3].any() and not right[3].any()
            self.compare_infos(left[4], right[4])
            phases.add(len(set(left[0]["step"].tolist())))
        assert num_steps == 1 or 2 in phases  # they did run out of phase

    def compare_infos(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        assert set(ours) == set(theirs)
        for key, value in theirs.items():
            if key == "final_obs":  # Gymnasium keeps an object array of dicts; ours is one dict of arrays
                ended = theirs["_final_obs"]
                np.testing.assert_array_equal(ours[key]["step"][ended], [obs["step"] for obs in value[ended]])
                assert ours[key]["x"].shape == (3, 2) and set(ours[key]) == {"x", "step"}
            elif isinstance(value, dict):
                self.compare_infos(ours[key], value)
            elif key.startswith("_"):
                np.testing.assert_array_equal(ours[key], value)
            else:
                assert ours[key].dtype == value.dtype
                np.testing.assert_array_equal(ours[key] != 0, value != 0)

    def test_next_step_ignores_the_action_of_the_reset(self, ring: Dataset) -> None:
        envs = make_vector(ring, num_steps=2, autoreset_mode=NEXT)
        envs.reset(seed=0)
        first, second, third = actions(3)
        envs.step(first)
        envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        assert envs.step(second)[2].tolist() == [True, False, True]
        third[0] = np.nan
        obs, reward, terminated, _, infos = envs.step(third)
        assert obs["step"].tolist() == [0, 2, 0] and terminated.tolist() == [False, True, False]
        assert reward[0] == reward[2] == 0.0 != reward[1]
        assert infos["_critic_score"].tolist() == [False, True, False]

    def test_the_final_observation_is_the_one_without_autoreset(self, ring: Dataset) -> None:
        same, off = (make_vector(ring, autoreset_mode=mode) for mode in (SAME, DISABLED))
        for envs in (same, off):
            envs.reset(seed=4)
        for action in actions(2):
            ours, theirs = same.step(action), off.step(action)
        np.testing.assert_array_equal(ours[4]["final_obs"]["x"], theirs[0]["x"])
        assert ours[4]["final_obs"]["step"].tolist() == [2, 2, 2] and ours[0]["step"].tolist() == [0, 0, 0]
        np.testing.assert_array_equal(ours[4]["final_info"]["critic_score"], theirs[4]["critic_score"])
        np.testing.assert_array_equal(ours[1], theirs[1])

    def test_masked_reset_leaves_the_others_alone(self, ring: Dataset) -> None:
        envs = make_vector(ring, num_steps=3, autoreset_mode=DISABLED)
        envs.reset(seed=0)
        before = envs.step(actions(1)[0])[0]
        after, _ = envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        stays = ~self.OUT_OF_PHASE
        np.testing.assert_array_equal(after["x"][stays], before["x"][stays])
        assert (after["x"][1] != before["x"][1]).all() and after["step"].tolist() == [1, 0, 1]

    def test_a_step_needs_a_reset(self, ring: Dataset) -> None:
        for mode in AutoresetMode:
            envs = make_vector(ring, num_steps=1, autoreset_mode=mode)
            with pytest.raises(ResetNeeded, match="3 of 3"):
                envs.step(actions(1)[0])
        envs = make_vector(ring, num_steps=1, autoreset_mode=DISABLED)
        envs.reset(seed=0)
        envs.step(actions(1)[0])
        envs.reset(options={"reset_mask": self.OUT_OF_PHASE})
        with pytest.raises(ResetNeeded, match="2 of 3"):
            envs.step(actions(1)[0])


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
                rows.append(np.stack([infos.get("final_obs", obs)["x"][..., 0], np.asarray(reward)]).reshape(2, -1))
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
            assert ks_2samp(single[1], other[1]).pvalue < 1e-4  # the test can tell laws apart

    def test_the_same_start_and_actions_give_the_same_sample(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        arguments: dict[str, Any] = {"num_steps": 3, "action_mode": "residual", "denoiser": oracle}
        envs, env = make_vector(ring, **arguments), DDPMShortcutEnv(ring, **arguments)
        starts, _ = envs.reset(seed=0)
        plan = actions(3)
        for action in plan:
            infos = envs.step(action)[4]
        for i in range(3):
            env.reset(seed=i)
            env.process.x = torch.from_numpy(starts["x"][i : i + 1].copy())
            for action in plan[:, i]:
                obs = env.step(action)[0]
            np.testing.assert_allclose(infos["final_obs"]["x"][i], obs["x"], rtol=1e-5, atol=1e-5)


class TestArrays:
    @pytest.mark.parametrize("mode", list(AutoresetMode))
    def test_numpy_and_torch_give_equal_numbers(self, ring: Dataset, mode: AutoresetMode) -> None:
        results: dict[str, list[Step]] = {}
        for array_type in ("numpy", "torch"):
            envs = make_vector(ring, 130, array_type=array_type, autoreset_mode=mode)  # 130: the critic is trained
            envs.reset(seed=0)
            results[array_type] = []
            for i, action in enumerate(actions(6, 130)):
                if mode is DISABLED and i % 2 == 0:
                    envs.reset()
                step = envs.step(torch.from_numpy(action) if array_type == "torch" else action)
                results[array_type].append(step)
        kinds = {
            key: {type(leaf) for step in steps for leaf in leaves(dict(enumerate(step)))}
            for key, steps in results.items()
        }
        assert kinds == {"numpy": {np.ndarray}, "torch": {torch.Tensor}}
        assert_same_steps(results["numpy"], results["torch"])

    @pytest.mark.parametrize("array_type", ["numpy", "torch"])
    def test_in_the_spaces(self, ring: Dataset, array_type: str) -> None:
        envs = make_vector(ring, array_type=array_type)
        assert isinstance(envs.observation_space, gym.spaces.Dict)
        assert envs.observation_space["step"] == gym.spaces.MultiDiscrete([3, 3, 3])
        assert envs.action_space.shape == (3, 2) and envs.single_action_space.shape == (2,)
        obs, _ = envs.reset(seed=0)
        assert envs.observation_space.contains({key: np.asarray(value) for key, value in obs.items()})

    @pytest.mark.parametrize("array_type", ["numpy", "torch"])
    def test_what_is_returned_is_never_written_again(self, ring: Dataset, array_type: str) -> None:
        envs, control = (make_vector(ring, array_type=array_type) for _ in range(2))
        plan = torch.from_numpy(actions(8)) if array_type == "torch" else actions(8)
        starts = [made.reset(seed=0)[0] for made in (envs, control)]
        kept = [(leaf, pickle.dumps(leaf)) for leaf in leaves(starts[1])]
        for leaf in leaves(starts[0]):
            leaf[:] = 1
        for action in plan:
            steps = [made.step(action + 0) for made in (envs, control)]
            assert_same_steps([steps[0]], [steps[1]])
            kept += [(leaf, pickle.dumps(leaf)) for leaf in leaves(dict(enumerate(steps[1])))]
            for leaf in leaves(dict(enumerate(steps[0]))):
                leaf[:] = 1  # what a user does to them must not reach the environment
        assert all(pickle.dumps(leaf) == before for leaf, before in kept)

    def test_no_autograd_graph(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        envs = make_vector(ring, action_mode="residual", denoiser=oracle, array_type="torch")
        envs.reset(seed=0)
        for action in torch.from_numpy(actions(2)):
            step = envs.step(action.requires_grad_())
        assert not any(leaf.requires_grad for leaf in leaves(dict(enumerate(step))))

    @pytest.mark.gpu
    def test_cuda_follows_the_cpu(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        results = []
        for device in ("cpu", "cuda"):
            network = deepcopy(oracle)  # the environment moves it to its device
            arguments: dict[str, Any] = {"action_mode": "residual", "denoiser": network, "array_type": "torch"}
            envs = make_vector(ring, 130, device=device, **arguments)
            envs.reset(seed=0)
            envs.process.x = torch.from_numpy(actions(1, 130)[0]).to(device)
            for action in torch.from_numpy(actions(2, 130)).to(device):
                step = envs.step(action)
            assert {leaf.device.type for leaf in leaves(dict(enumerate(step)))} == {device}
            results.append(step[4]["final_obs"]["x"].cpu())
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
        bad = torch.full((130, 2), torch.nan, device="cuda")
        envs.step(bad)  # found when the episode ends
        with pytest.raises(ValueError, match="NaN or infinity"):
            envs.step(torch.zeros_like(bad))
        with pytest.raises(ResetNeeded):
            envs.step(torch.zeros_like(bad))


class TestSeeding:
    @pytest.mark.parametrize("mode", ["step", "residual"])
    def test_same_seed_same_bits(self, ring: Dataset, oracle: MixtureDenoiser, mode: str) -> None:
        envs = make_vector(ring, 130, action_mode=mode, denoiser=oracle)

        def run(seed: int) -> list[Step]:
            envs.reset(seed=seed)
            return [envs.step(action) for action in actions(6, 130)]

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
        envs = gym.make_vec(ID, num_envs=5, dataset="gaussians8", num_steps=2)
        assert isinstance(envs.unwrapped, DDPMShortcutVectorEnv) and envs.num_envs == 5
        assert envs.metadata["autoreset_mode"] is SAME and DDPMShortcutVectorEnv.metadata["autoreset_mode"] is SAME
        assert envs.reset(seed=0)[0]["x"].shape == (5, 2)

    def test_make_vec_sync(self) -> None:
        envs = gym.make_vec(ID, num_envs=2, vectorization_mode="sync", dataset="gaussians8", num_steps=1)
        envs.reset(seed=0)
        assert envs.step(actions(1, 2)[0])[2].all()

    def test_spec_survives_json(self) -> None:
        made = gym.make_vec(ID, num_envs=2, dataset="gaussians8", num_steps=1, autoreset_mode="Disabled")
        assert made.spec is not None
        again = gym.make_vec(EnvSpec.from_json(made.spec.to_json()))
        assert again.metadata["autoreset_mode"] is DISABLED
        np.testing.assert_array_equal(made.reset(seed=0)[0]["x"], again.reset(seed=0)[0]["x"])

    def test_pickle(self, ring: Dataset) -> None:
        envs = make_vector(ring, 130)
        envs.reset(seed=0)
        copy = pickle.loads(pickle.dumps(envs))
        assert_same_steps(*[[made.step(action) for action in actions(4, 130)] for made in (envs, copy)])

    def test_statistics_wrapper(self, ring: Dataset) -> None:
        envs = gym.wrappers.vector.RecordEpisodeStatistics(make_vector(ring))
        envs.reset(seed=0)
        for action in actions(2):
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
        for action in actions(6, num_envs):
            reward = envs.step(action)[1]
            updates.append(bool(envs.process.critic_metrics))
        assert updates == [False] * (1 if num_envs == 128 else 5) + [True] * (5 if num_envs == 128 else 1)
        assert np.isfinite(reward).all()

    def test_baseline_takes_particles_out_of_phase(self, ring: Dataset) -> None:
        envs = make_vector(ring, 130, critic="baseline", autoreset_mode=NEXT)
        envs.reset(seed=0)
        first, *rest = actions(6, 130)
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
        plan = actions(5, 130)
        envs.step(plan[0])
        resumed.load_state_dict(envs.state_dict())
        resumed.critic.load_state_dict(envs.critic.state_dict())
        assert_same_steps(*[[made.step(action) for action in plan[1:]] for made in (envs, resumed)])
        np.testing.assert_array_equal(envs.reset()[0]["x"], resumed.reset()[0]["x"])
