"""The PPO of RECIPES.md, in CleanRL's style, learns under both stacks of wrappers; and the traps the page names."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector

import diffusion_env
from diffusion_env.assembly import ACTION_BOUND

PAGE = Path(diffusion_env.__file__).parent / "RECIPES.md"
ID = "DDPMShortcut-v0"
BLOCKS = PAGE.read_text().split("## CleanRL\n")[1].split("\n## ")[0].split("```python\n")[1:]
FIXED: dict[str, Any] = {"dataset": "gaussians8", "num_steps": 2, "critic": lambda x: -(x - 1).square().sum(-1)}


def recipe(*beginnings: str) -> dict[str, Any]:
    """The names that the page's blocks with these beginnings define."""
    names: dict[str, Any] = {"gym": gym}
    for beginning in beginnings:
        (block,) = [block for block in BLOCKS if block.startswith(beginning)]
        exec(block.split("\nenvs =")[0].split("\ntorch.manual_seed")[0].split("```")[0], names)
    return names


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    return recipe("import numpy", "def ppo", "def make_env()", "import diffusion_env")


@pytest.fixture
def sync(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """CleanRL's own stack on the fixed reward: only the id is another."""
    monkeypatch.setitem(
        gym.registry,
        "SwissRoll-v0",
        gym.envs.registration.EnvSpec(
            "SwissRoll-v0", "diffusion_env.env:DDPMShortcutEnv", kwargs={"action_mode": "residual", **FIXED}
        ),
    )
    return gym.vector.SyncVectorEnv([page["make_env"]] * 8, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.fixture
def native(page: dict[str, Any]) -> Any:
    return page["make_envs"](64, **FIXED)[0]


def gain(page: dict[str, Any], envs: Any, lr: float, num_steps: int) -> float:
    """By how much PPO raises the mean return of the last quarter of episodes over that of the first."""
    torch.manual_seed(0)
    history = page["ppo"](envs, page["Agent"](envs), iterations=12, num_steps=num_steps, lr=lr, clip=0.2)
    quarter = len(history) // 4
    return float(np.mean(history[-quarter:]) - np.mean(history[:quarter]))


class TestLearning:
    def test_copies_wrapped_one_by_one(self, page: dict[str, Any], sync: Any) -> None:
        assert gain(page, sync, 2e-2, num_steps=8) > 0.8

    def test_native_batch(self, page: dict[str, Any], native: Any) -> None:
        assert gain(page, native, 2e-2, num_steps=6) > 0.8

    def test_negative_control(self, page: dict[str, Any], native: Any) -> None:
        assert abs(gain(page, native, 0.0, num_steps=6)) < 0.5


def test_a_script_that_takes_only_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(gym.registry, "SwissRoll-v0", raising=False)
    (tmp_path / "my_ids.py").write_text(BLOCKS[0].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    env: Any = gym.make("my_ids:SwissRoll-v0")
    assert env.unwrapped.table.num_steps == 5 and env.unwrapped.process.action_mode == "residual"


class TestTraps:
    def test_the_policy_starts_as_the_pretrained_sampler(self, page: dict[str, Any], native: Any) -> None:
        law, _ = page["Agent"](native)(torch.Tensor(native.reset(seed=0)[0]))
        assert torch.equal(law.mean, torch.zeros(64, 2)) and torch.equal(law.stddev, torch.ones(64, 2))

    def test_flat_observations_are_x_and_then_the_step(self) -> None:
        envs = gym.make_vec(ID, 3, autoreset_mode="NextStep", **FIXED)
        flat = vector.FlattenObservation(gym.make_vec(ID, 3, autoreset_mode="NextStep", **FIXED))
        obs, stacked = envs.reset(seed=0)[0], flat.reset(seed=0)[0]
        np.testing.assert_array_equal(stacked, np.concatenate([obs["x"], np.eye(3)[obs["step"]]], axis=1))

    def test_the_logged_return_is_the_environment_s_own(self, native: Any) -> None:
        native.reset(seed=0)
        for _ in range(2):
            _, reward, terminated, _, infos = native.step(np.zeros((64, 2), np.float32))
        assert terminated.all()
        np.testing.assert_allclose(infos["episode"]["r"], infos["critic_score"] - infos["data_score"], atol=1e-6)
        assert not np.allclose(infos["episode"]["r"], reward)  # which is normalised

    def test_where_the_statistics_of_an_episode_stand(self, sync: Any) -> None:
        batch = vector.RecordEpisodeStatistics(gym.make_vec(ID, 8, **FIXED))
        for envs in (sync, batch):
            envs.reset(seed=0)
            for _ in range(2):
                infos = envs.step(np.zeros((8, 2), np.float32))[4]
            assert ("episode" in infos["final_info"]) is (envs is sync)
            assert ("episode" in infos) is (envs is batch)

    def test_types_of_rewards_and_actions(self, native: Any, sync: Any) -> None:
        for envs in (native, sync):
            envs.reset(seed=0)
            assert envs.step(np.zeros((envs.num_envs, 2), np.float32))[1].dtype == np.float64
        for array in (np.zeros((2, 2)), [[0, 0], [0, 0]]):
            bare = gym.make_vec(ID, 2, **FIXED)
            bare.reset(seed=0)
            assert bare.step(array)[0]["x"].dtype == np.float32

    def test_clipping_leaves_the_policy_s_action_alone(self) -> None:
        envs: Any = vector.ClipAction(gym.make_vec(ID, 2, action_mode="residual", **FIXED))
        action = np.full((2, 2), 2 * ACTION_BOUND, np.float32)
        envs.reset(seed=0)
        clipped = envs.step(action)[0]["x"]
        assert (action == 2 * ACTION_BOUND).all()  # it goes into the buffer, beside its own log-probability
        envs.reset(seed=0)
        np.testing.assert_array_equal(envs.step(action / 2)[0]["x"], clipped)

    def test_a_seed_in_training_starts_the_critic_anew(self) -> None:
        envs: Any = gym.make_vec(ID, 128, dataset="gaussians8", num_steps=1)

        def opinion() -> float:
            with torch.no_grad():
                return float(envs.unwrapped.critic(torch.zeros(1, 2)))

        envs.reset(seed=0)
        start = opinion()
        envs.step(np.zeros((128, 2), np.float32))
        trained = opinion()
        envs.reset()
        assert opinion() == trained != start
        envs.reset(seed=0)
        assert opinion() == start


def test_calls_that_off_policy_scripts_make() -> None:
    """CleanRL's SAC and TD3: one Box, copies in Gymnasium's default mode, `copy` of a batch of observations."""

    def make_env(seed: int) -> Any:
        env = gym.wrappers.RecordEpisodeStatistics(gym.make("diffusion_env:DDPMShortcutFlat-v0", **FIXED))
        env.action_space.seed(seed)
        return env

    envs: Any = gym.vector.SyncVectorEnv([lambda: make_env(0), lambda: make_env(1)])
    assert isinstance(envs.single_action_space, gym.spaces.Box)
    assert np.array(envs.single_observation_space.shape).prod() == 3
    envs.single_observation_space.dtype = np.float32
    obs, _ = envs.reset(seed=1)
    resets = 0
    for k in range(7):
        sampled = np.array([envs.single_action_space.sample() for _ in range(envs.num_envs)])
        actions = sampled if k < 3 else torch.tanh(torch.Tensor(obs)[:, :2]).numpy()
        next_obs, rewards, terminations, truncations, infos = envs.step(actions)
        assert "final_info" not in infos and not truncations.any()  # so these scripts log no return
        assert next_obs.copy().dtype == np.float32 and next_obs.shape == (2, 3)
        resets += bool((next_obs[:, -1] == 0).all() and (rewards == 0).all() and not terminations.any())
        obs = next_obs
    assert resets == 2  # the steps that go into the replay buffer though they only reset
