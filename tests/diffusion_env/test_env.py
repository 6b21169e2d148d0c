"""The single environment: Gymnasium's and stable-baselines3's contracts, seeding, arguments, documentation."""

import doctest
import inspect
import math
import pickle
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

import diffusion_env.env as env_module
from diffusion_env.assembly import ACTION_BOUND
from diffusion_env.critics import CRITICS, Critic, FrozenCritic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import DATASETS, load_dataset
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.process import CRITIC_BATCH, ActionMode
from diffusion_env.samplers.named import SAMPLERS, make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import walk
from diffusion_env.vector_env import DDPMShortcutVectorEnv

ID = "DDPMShortcut-v0"
TRAINABLE = [name for name in CRITICS if name != "frozen"]


@pytest.fixture
def env(ring: Dataset, oracle: MixtureDenoiser) -> DDPMShortcutEnv:
    return DDPMShortcutEnv(ring, num_steps=3, action_mode="residual", denoiser=oracle)


def actions(env: gym.Env[Any, Any], n: int, seed: int = 0) -> NDArray[np.float32]:
    assert env.action_space.shape is not None
    return np.random.default_rng(seed).standard_normal((n, *env.action_space.shape)).astype(np.float32)


def episode(env: gym.Env[Any, Any], seed: int | None = None, noise: int = 0) -> tuple[list[Any], float, dict[str, Any]]:
    """All x, the return and the last info."""
    obs, _ = env.reset(seed=seed)
    xs, total = [obs["x"]], 0.0
    for action in actions(env, env.observation_space["step"].n - 1, noise):  # type: ignore[index]  # a Dict space
        obs, reward, terminated, truncated, info = env.step(action)
        xs.append(obs["x"])
        total += float(reward)
    assert terminated and not truncated
    return xs, total, info


class TestContract:
    @pytest.mark.parametrize("num_steps", [1, 2, 10])
    @pytest.mark.parametrize("mode", ["step", "residual"])
    def test_checkers(self, num_steps: int, mode: ActionMode) -> None:
        from gymnasium.utils.env_checker import check_env
        from stable_baselines3.common.env_checker import check_env as check_sb3

        made = gym.make(ID, dataset="gaussians8", num_steps=num_steps, action_mode=mode, render_mode="rgb_array")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*(Box action|Box observation|unconventional shape)")
            check_env(made.unwrapped, skip_render_check=num_steps > 1)
            check_sb3(made.unwrapped, skip_render_check=True)

    def test_registration(self) -> None:
        spec = gym.spec(ID)
        assert spec.max_episode_steps is None and spec.vector_entry_point
        assert isinstance(gym.make(f"diffusion_env:{ID}").unwrapped, DDPMShortcutEnv)

    def test_spaces(self, env: DDPMShortcutEnv) -> None:
        assert env.action_space == gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
        assert env.observation_space == gym.spaces.Dict(
            x=gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), step=gym.spaces.Discrete(4)
        )

    def test_an_episode(self, env: DDPMShortcutEnv) -> None:
        obs, info = env.reset(seed=0)
        assert info == {} and obs["step"] == 0
        for k, action in enumerate(actions(env, 3)):
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
        first, *rest = actions(env, 3)
        env.step(first)
        copy = pickle.loads(pickle.dumps(env))
        for action in rest:
            ours, theirs = env.step(action), copy.step(action)
            np.testing.assert_array_equal(ours[0]["x"], theirs[0]["x"])
        assert ours[1] == theirs[1] != 0.0
        np.testing.assert_array_equal(env.reset()[0]["x"], copy.reset()[0]["x"])

    def test_spec_survives_json(self) -> None:
        made = gym.make(ID, dataset="gaussians8", num_steps=2, critic="mmd", sampler="ddim")
        assert made.spec is not None
        again = gym.make(EnvSpec.from_json(made.spec.to_json()))
        assert again.spec == made.spec and again.unwrapped.critic.name == "mmd"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(episode(made, 3)[0], episode(again, 3)[0])

    def test_what_is_returned_is_the_user_s(self, env: DDPMShortcutEnv) -> None:
        expected = episode(env, 0)[0]
        obs, _ = env.reset(seed=0)
        kept = [(obs["x"], obs["x"].copy())]
        for action in actions(env, 3):
            obs = env.step(action)[0]
            action[:] = 1e3  # the process must not look at it again
            kept.append((obs["x"], obs["x"].copy()))
        assert all(np.array_equal(x, copy) for x, copy in kept)
        obs, _ = env.reset(seed=0)
        obs["x"][:] = 1e3
        np.testing.assert_array_equal(env.step(actions(env, 1)[0])[0]["x"], expected[1])


class TestSeeding:
    @pytest.mark.parametrize("mode", ["step", "residual"])
    @pytest.mark.parametrize("critic", ["energy", "gradient_penalty", "baseline"])
    def test_same_seed_same_bits(self, ring: Dataset, oracle: MixtureDenoiser, mode: ActionMode, critic: str) -> None:
        made = DDPMShortcutEnv(ring, num_steps=2, action_mode=mode, denoiser=oracle, critic=critic)
        first, second, other = episode(made, 7), episode(made, 7), episode(made, 8)
        np.testing.assert_array_equal(first[0], second[0])
        assert first[1:] == second[1:]
        assert not np.array_equal(first[0], other[0]) and first[1] != other[1]

    def test_the_seed_restarts_a_trained_critic_given_by_name(self, ring: Dataset) -> None:
        given = make_critic("energy", ring.shape)
        for critic, restarts in (("energy", True), (given, False)):
            made = DDPMShortcutEnv(ring, num_steps=1, critic=critic)
            first = episode(made, 0)[1]
            for _ in range(CRITIC_BATCH - 1):
                episode(made)
            assert made.process.critic_metrics
            assert (episode(made, 0)[1] == first) is restarts

    def test_reset_without_a_seed_goes_on(self, env: DDPMShortcutEnv) -> None:
        starts = [env.reset(seed=0)[0]["x"], env.reset()[0]["x"], env.reset()[0]["x"]]
        assert len({x.tobytes() for x in starts}) == 3

    def test_unseeded_environments_differ(self, ring: Dataset) -> None:
        starts = [DDPMShortcutEnv(ring).reset()[0]["x"] for _ in range(2)]
        assert not np.array_equal(*starts)


class TestArguments:
    @pytest.mark.parametrize("critic", TRAINABLE)
    def test_every_critic_learns(self, ring: Dataset, critic: str) -> None:
        made = DDPMShortcutEnv(ring, num_steps=1, critic=critic)
        for i in range(CRITIC_BATCH):
            assert not made.process.critic_metrics
            total = episode(made, noise=i)[1]
        assert "ipm" in made.process.critic_metrics and np.isfinite(total)

    def test_saved_critic_and_reward_function(self, ring: Dataset, tmp_path: Path) -> None:
        saved = make_critic("energy", ring.shape, seed=3)
        path = saved.save(tmp_path / "critic")
        for critic in (str(path), path, f"frozen:{path}"):
            xs, _, info = episode(made := DDPMShortcutEnv(ring, num_steps=1, critic=critic), 0)
            assert isinstance(made.critic, FrozenCritic)
            with torch.no_grad():
                assert info["critic_score"] == pytest.approx(float(saved(torch.tensor(xs[-1]))), abs=1e-6)
        reward = FrozenCritic(lambda x: x[..., 0], ring.shape)
        xs, _, info = episode(DDPMShortcutEnv(ring, num_steps=1, critic=reward), 0)
        assert info["critic_score"] == float(xs[-1][0])

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("num_steps", [1, 2])
    def test_samplers(self, ring: Dataset, oracle: MixtureDenoiser, sampler: str, num_steps: int) -> None:
        made = DDPMShortcutEnv(ring, num_steps, sampler, "residual", oracle)
        assert made.table.num_steps == num_steps and np.isfinite(episode(made, 0)[1])

    def test_a_table_is_used_as_it_is(self, ring: Dataset) -> None:
        table = make_table("ddim", make_schedule("linear"), 4)
        assert torch.equal(DDPMShortcutEnv(ring, 4, table).table.x_coef, table.x_coef)
        with pytest.raises(ValueError, match="4 rows but num_steps = 10"):
            DDPMShortcutEnv(ring, sampler=table)

    @pytest.mark.parametrize("shape", [(1, 8, 8), (3,), (1,)])
    def test_npz_of_any_shape_needs_no_network(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        np.savez(tmp_path / "points.npz", x=np.random.default_rng(0).normal(size=(50, *shape)))
        for data in (str(tmp_path / "points.npz"), load_dataset(tmp_path / "points.npz")):
            made = DDPMShortcutEnv(data, num_steps=2)
            xs, total, _ = episode(made, 0)
            assert made.denoiser is None and xs[-1].shape == shape and np.isfinite(total)
        denoiser = EpsMLP(shape, make_schedule("cosine"))
        path = denoiser.save(tmp_path / "denoiser")
        assert np.isfinite(episode(DDPMShortcutEnv(data, 2, action_mode="residual", denoiser=path), 0)[1])

    def test_a_file_with_a_known_name_is_not_that_set(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "swiss_roll.npz", x=np.random.default_rng(0).normal(size=(50, 2)))
        assert DDPMShortcutEnv(tmp_path / "swiss_roll.npz").denoiser is None
        assert DDPMShortcutEnv(load_dataset("swiss_roll")).denoiser is not None

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"dataset": "swiss"}, ValueError, "swiss_roll, moons"),
            ({"sampler": "ddmp"}, ValueError, "'ddim', 'ddpm'"),
            ({"critic": "energie"}, ValueError, "energy, frozen, gradient_penalty"),
            ({"action_mode": "noise"}, ValueError, "'step', 'residual'"),
            ({"render_mode": "human"}, ValueError, "rgb_array"),
            ({"denoiser": "nowhere"}, FileNotFoundError, "ddpm-shortcut pretrain"),
            ({"num_steps": 0}, ValueError, "num_steps must be .*received 0"),
            ({"num_steps": 1001}, ValueError, "between 1 and the 1000 levels"),
            ({"num_steps": 2.0}, ValueError, "num_steps must be an integer"),
        ],
    )
    def test_unknown_names_list_what_exists(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message) as caught:
            DDPMShortcutEnv(**{"dataset": "gaussians8", **arguments})
        assert "\n" not in str(caught.value)

    def test_other_shapes_are_refused(self, ring: Dataset) -> None:
        three = EpsMLP((3,), make_schedule("cosine"))
        with pytest.raises(ValueError, match=r"\(3,\)"):
            DDPMShortcutEnv(ring, action_mode="residual", denoiser=three)
        with pytest.raises(ValueError, match=r"\(3,\)"):
            DDPMShortcutEnv(ring, critic=make_critic("energy", (3,)))
        with pytest.raises(ValueError, match="Pass denoiser=PATH"):
            DDPMShortcutEnv(replace(ring, name="mine"), action_mode="residual")


class TestActions:
    @pytest.mark.parametrize(
        ("action", "error", "message"),
        [
            (np.array([0.0, np.nan], np.float32), ValueError, "NaN or infinity"),
            (np.array([0.0, np.inf], np.float32), ValueError, "NaN or infinity"),
            (np.zeros(3, np.float32), ValueError, r"shape \(2,\); received \(3,\)"),
            (np.zeros((1, 2), np.float32), ValueError, r"shape \(2,\); received \(1, 2\)"),
            (np.zeros(2), TypeError, "received an array of dtype float64"),
            ([0.0, 0.0], TypeError, "received list"),
            (torch.zeros(2), TypeError, "received Tensor"),
        ],
    )
    def test_unusable_ones_are_refused_and_nothing_is_lost(
        self, env: DDPMShortcutEnv, action: Any, error: type[Exception], message: str
    ) -> None:
        expected = episode(env, 0)
        env.reset(seed=0)
        with pytest.raises(error, match=message):
            env.step(action)
        for good in actions(env, 3):
            obs, reward, *_ = env.step(good)
        np.testing.assert_array_equal(obs["x"], expected[0][-1])
        assert reward == expected[1]

    def test_not_clipped(self, env: DDPMShortcutEnv) -> None:
        start = env.reset(seed=0)[0]["x"]
        inside = env.step(np.full(2, ACTION_BOUND, np.float32))[0]["x"]
        env.reset(seed=0)
        outside = env.step(np.full(2, 2 * ACTION_BOUND, np.float32))[0]["x"]
        std = float(env.table.std[0])
        np.testing.assert_allclose(outside - inside, ACTION_BOUND * std, rtol=1e-3)
        assert np.isfinite(start).all()

    def test_read_only_and_strided_arrays(self, env: DDPMShortcutEnv) -> None:
        env.reset(seed=0)
        plain = env.step(np.array([1.0, 2.0], np.float32))[0]["x"]
        frozen = np.array([2.0, 9.0, 1.0], np.float32)[::-2]
        frozen.setflags(write=False)
        env.reset(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(env.step(frozen)[0]["x"], plain)

    @pytest.mark.parametrize(("sampler", "reached"), [("ddpm", 6), ("ddim", 4)])
    def test_the_pretrained_sampler_stays_in_the_box(self, sampler: str, reached: float) -> None:
        denoiser = load_denoiser(None, "swiss_roll", (2,))
        table = make_table(sampler, denoiser.schedule, 10)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            states = list(walk(table, denoiser, torch.randn(20_000, 2, generator=generator), generator))
        rows = [table.rows(k, 1) for k in range(10)]
        taken = torch.stack([(states[k + 1] - r.x_coef * states[k]) / r.action_scale for k, r in enumerate(rows)])
        assert float(taken.abs().max()) < ACTION_BOUND
        assert float(taken.abs().max()) > reached  # a much smaller box would be left
        assert 0.2 < float(taken.var((1, 2)).min()) < float(taken.var((1, 2)).max()) < 1.1


def test_the_stated_probability_of_leaving_the_box() -> None:
    assert math.erfc(ACTION_BOUND / math.sqrt(2)) == pytest.approx(1.5e-23, rel=0.02, abs=0)


class TestDocumentation:
    SECTIONS = (
        "Description",
        "Action Space",
        "Observation Space",
        "Rewards",
        "Starting State",
        "Episode End",
        "Arguments",
        "Version History",
    )

    def test_the_eight_sections_in_order(self) -> None:
        lines = inspect.getdoc(DDPMShortcutEnv).splitlines()  # type: ignore[union-attr]
        assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == list(self.SECTIONS)

    def test_the_example_runs(self) -> None:
        failed, tried = doctest.testmod(env_module)
        assert failed == 0 and tried >= 10

    def test_every_argument_is_described_with_its_default(self) -> None:
        doc = inspect.getdoc(DDPMShortcutEnv)
        assert doc is not None
        text = " ".join(doc.split("## Arguments")[1].split())
        for name, parameter in inspect.signature(DDPMShortcutVectorEnv).parameters.items():
            shown = f'"{parameter.default}"' if isinstance(parameter.default, str) else str(parameter.default)
            assert name == "num_envs" or f"`{name}` = {shown}" in text
        assert set(inspect.signature(DDPMShortcutEnv).parameters) < set(
            inspect.signature(DDPMShortcutVectorEnv).parameters
        )

    def test_every_name_is_listed(self) -> None:
        text = inspect.getdoc(DDPMShortcutEnv)
        assert text is not None
        assert [name for name in (*DATASETS, *SAMPLERS, *TRAINABLE) if f'"{name}"' not in text] == []
