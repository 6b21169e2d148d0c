"""Gymnasium's three ways to batch the environment, and its wrappers for the end of an episode."""

import os
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

import diffusion_env  # noqa: F401  # registers the id
from diffusion_env.critics import make_critic

ID = "DDPMShortcut-v0"
NUM_ENVS, NUM_STEPS = 3, 2
SMALL: dict[str, Any] = {"dataset": "gaussians8", "num_steps": NUM_STEPS}
ZERO = np.zeros(2, np.float32)

Envs = VectorEnv[Any, Any, Any]


def make(mode: str, autoreset: AutoresetMode = AutoresetMode.SAME_STEP, **kwargs: Any) -> Envs:
    kwargs |= SMALL
    if mode == "vector_entry_point":
        return gym.make_vec(ID, NUM_ENVS, autoreset_mode=autoreset, **kwargs)
    return gym.make_vec(ID, NUM_ENVS, vectorization_mode=mode, vector_kwargs={"autoreset_mode": autoreset}, **kwargs)


def actions(n: int) -> Any:
    return np.random.default_rng(0).standard_normal((n, NUM_ENVS, 2)).astype(np.float32)


def episodes(envs: Envs, steps: int = 2 * NUM_STEPS, seed: int = 5) -> list[Any]:
    """What reset and each step return, without the infos."""
    seen = [envs.reset(seed=seed)[0], *(envs.step(action)[:4] for action in actions(steps))]
    envs.close()
    return seen


def leaves(part: Any) -> list[Any]:
    """The arrays in nested tuples, lists and dicts."""
    if isinstance(part, dict):
        return [array for key in sorted(part) for array in leaves(part[key])]
    return [array for inner in part for array in leaves(inner)] if isinstance(part, (tuple, list)) else [part]


class TestOneLaw:
    @pytest.mark.parametrize("autoreset", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
    def test_shapes_and_types_agree(self, autoreset: AutoresetMode) -> None:
        native, sync, apart = (
            [(array.shape, array.dtype) for array in leaves(episodes(make(mode, autoreset)))]
            for mode in ("vector_entry_point", "sync", "async")
        )
        assert native == sync == apart

    def test_async_gives_the_bits_of_sync(self) -> None:
        pairs = zip(*(leaves(episodes(make(mode))) for mode in ("sync", "async")), strict=True)
        assert all(np.array_equal(*pair) for pair in pairs)

    def test_copy_i_of_sync_is_the_single_environment_with_seed_plus_i(self) -> None:
        seen = episodes(make("sync"), NUM_STEPS)
        for i in range(NUM_ENVS):
            env = gym.make(ID, **SMALL)
            np.testing.assert_array_equal(env.reset(seed=5 + i)[0]["x"], seen[0]["x"][i])
            for action in actions(NUM_STEPS):
                reward = env.step(action[i])[1]
            assert reward == seen[NUM_STEPS][1][i] != 0.0

    def test_copies_have_critics_of_their_own_unless_given_one(self) -> None:
        for critic, shared in (("energy", False), (make_critic("energy", (2,)), True)):
            envs: Any = make("sync", critic=critic)
            assert (envs.envs[0].unwrapped.critic is envs.envs[1].unwrapped.critic) is shared


def test_a_spawned_worker_gets_the_environment_pickled() -> None:
    spawned = {"context": "spawn"}
    envs = gym.make_vec(ID, 1, "async", spawned, critic=lambda x: x.sum(-1), **SMALL)
    obs = envs.reset(seed=5)[0]
    np.testing.assert_array_equal(obs["x"][0], gym.make(ID, **SMALL).reset(seed=5)[0]["x"])
    envs.close()


FORKING = """
import gymnasium as gym, torch, diffusion_env
torch.set_num_threads(2)
torch.randn(500, 500) @ torch.randn(500, 500)  # the threads exist now
envs = gym.make_vec("DDPMShortcut-v0", 2, vectorization_mode="async", num_steps=1, vector_kwargs={"context": "fork"})
envs.reset(seed=0)
print(envs.step(envs.action_space.sample())[2])
envs.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_of_a_process_with_threads_does_not_hang() -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKING]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout == "[ True  True]\n"


class TestEnds:
    @pytest.mark.parametrize(
        ("limit", "terminated", "truncated"), [(1, False, True), (2, True, True), (3, True, False)]
    )
    def test_time_limit(self, limit: int, terminated: int, truncated: int) -> None:
        env = gym.make(ID, max_episode_steps=limit, **SMALL)
        env.reset(seed=0)
        for _ in range(min(limit, NUM_STEPS)):
            _, reward, *ends, info = env.step(ZERO)
        assert ends == [terminated, truncated]
        assert bool(reward) == bool(info) == terminated  # unfinished samples have neither reward nor scores

    def test_a_sample_that_is_cut_off_does_not_train_the_critic(self) -> None:
        metrics = []
        for limit in (NUM_STEPS - 1, None):
            env: Any = gym.make(ID, max_episode_steps=limit, **SMALL)
            for _ in range(130):
                env.reset()
                for _ in range(limit or NUM_STEPS):
                    env.step(ZERO)
            metrics.append(env.unwrapped.process.critic_metrics)
        assert not metrics[0] and metrics[1]

    @pytest.mark.parametrize("limit", [None, -1, NUM_STEPS, np.int64(NUM_STEPS + 1)])
    def test_the_native_batch_takes_a_limit_that_changes_nothing(self, limit: Any) -> None:
        envs = make("vector_entry_point", max_episode_steps=limit)
        assert [step[2].all() for step in episodes(envs)[1:]] == [False, True] * 2

    @pytest.mark.parametrize("limit", [NUM_STEPS - 1, 0, 2.0, True, "9"])
    def test_a_limit_that_cuts_samples_off_is_refused(self, limit: Any) -> None:
        with pytest.raises(ValueError, match=r"max_episode_steps = .*, but every episode has num_steps = 2 steps"):
            make("vector_entry_point", max_episode_steps=limit)

    def test_the_limit_of_a_registered_id(self, monkeypatch: pytest.MonkeyPatch) -> None:
        registered = gym.envs.registration.EnvSpec(
            "Limited-v0",
            "diffusion_env.env:DDPMShortcutEnv",
            max_episode_steps=NUM_STEPS,
            vector_entry_point="diffusion_env.vector_env:DDPMShortcutVectorEnv",
        )
        monkeypatch.setitem(gym.registry, "Limited-v0", registered)
        assert gym.make_vec("Limited-v0", NUM_ENVS, **SMALL).reset(seed=0)[0]["x"].shape == (NUM_ENVS, 2)
        with pytest.raises(ValueError, match="num_steps = 3 steps"):
            gym.make_vec("Limited-v0", NUM_ENVS, dataset="gaussians8", num_steps=3)

    def test_autoreset(self) -> None:
        env = gym.wrappers.Autoreset(gym.wrappers.RecordEpisodeStatistics(gym.make(ID, **SMALL)))
        env.reset(seed=0)
        steps = [env.step(ZERO) for _ in range(2 * NUM_STEPS + 1)]
        assert [int(obs["step"]) for obs, *_ in steps] == [1, 2, 0, 1, 2]
        assert [bool(reward) for _, reward, *_ in steps] == [False, True, False, False, True]
        ends = [info["episode"] for *_, info in steps if "episode" in info]
        assert [(end["l"], end["r"]) for end in ends] == [(NUM_STEPS, steps[1][1]), (NUM_STEPS, steps[4][1])]

    @pytest.mark.parametrize("autoreset", AutoresetMode)
    def test_statistics_of_a_batch_are_the_environment_s_returns(self, autoreset: AutoresetMode) -> None:
        envs = gym.wrappers.vector.RecordEpisodeStatistics(make("vector_entry_point", autoreset))
        envs.reset(seed=0)
        ends = 0
        for action in actions(2 * NUM_STEPS + 1):
            _, reward, terminated, _, infos = envs.step(action)
            if terminated.any():
                ends += 1
                assert infos["episode"]["l"].tolist() == [NUM_STEPS] * NUM_ENVS
                np.testing.assert_array_equal(infos["episode"]["r"], reward)
                if autoreset is AutoresetMode.DISABLED:
                    envs.reset(options={"reset_mask": terminated})
        assert ends == 2
