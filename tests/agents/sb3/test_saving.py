"""The state of a model goes into plain values and comes back: weights, counters, replay buffer, random generators."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.sb3.relabelling import relabelling_kwargs
from agents.sb3.saving import ARRAYS, model_state, random_state, restore_model, set_random_state
from agents.sb3.vec_env import DDPMShortcutVecEnv

Made = tuple[BaseAlgorithm, DDPMShortcutVecEnv]
MakeModel = Callable[..., Made]
PLAIN = (Tensor, int, float, bool, str, type(None))


@pytest.fixture
def make_model(make_env: Callable[..., DDPMShortcutVecEnv]) -> MakeModel:
    """``make_model(algorithm, seed)``: a small model that has not been trained, and its environments."""

    def make(algorithm: type[BaseAlgorithm], seed: int = 0) -> Made:
        env = make_env(seed=seed, critic="energy", action_mode="residual")
        sizes: dict[str, Any] = {"n_steps": 3}
        if algorithm is SAC:
            sizes = {"buffer_size": 60, "learning_starts": 0, "batch_size": 4, **relabelling_kwargs(env)}
        return algorithm("MultiInputPolicy", env, seed=seed, device="cpu", **sizes), env

    return make


def leaves(state: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a nested state, with where it stands."""
    if isinstance(state, dict | list | tuple):
        for key, one in state.items() if isinstance(state, dict) else enumerate(state):
            yield from leaves(one, f"{path}/{key}")
    else:
        yield path, state


def differences(one: Any, other: Any) -> list[str]:
    """Where two states differ by a bit."""
    ours, theirs = dict(leaves(one)), dict(leaves(other))
    assert ours.keys() == theirs.keys()
    return [
        path
        for path, value in ours.items()
        if not (torch.equal(value, theirs[path]) if isinstance(value, Tensor) else value == theirs[path])
    ]


@pytest.mark.parametrize("algorithm", [A2C, SAC])
def test_the_state_is_plain_values_and_comes_back(make_model: MakeModel, algorithm: type[BaseAlgorithm]) -> None:
    model, env = make_model(algorithm)
    model.learn(36)
    state = model_state(model, env)
    assert {type(value) for path, value in leaves(state) if not isinstance(value, PLAIN)} == set()
    assert state["counters"]["num_timesteps"] == 36

    other, other_env = make_model(algorithm, seed=1)
    other.learn(36)
    before = {path.split("/")[1] for path in differences(model_state(other, other_env), state)}
    assert {"parameters", "envs", "critic", "last"} <= before  # negative control: another seed is another state
    restore_model(other, other_env, state)
    assert differences(model_state(other, other_env), state) == []


def test_a_replay_buffer_keeps_what_is_filled_and_its_position(make_model: MakeModel) -> None:
    model, env = make_model(SAC)
    model.learn(24)  # 4 steps of 6 environments
    saved = model_state(model, env)["replay"]
    assert (saved["pos"], saved["full"]) == (4, False)
    assert {name: len(saved[name]) for name in ARRAYS} == dict.fromkeys(ARRAYS, 4)
    assert saved["observations"]["x"].shape == (4, 6, 2)
    model.learn(60, reset_num_timesteps=False)  # 10 rows are the whole buffer: 14 steps fill it once
    saved = model_state(model, env)["replay"]
    assert (saved["pos"], saved["full"], len(saved["rewards"])) == (4, True, 10)


def test_a_model_without_a_replay_buffer_has_none(make_model: MakeModel) -> None:
    assert model_state(*make_model(A2C))["replay"] is None


def test_a_state_of_another_network_is_refused(make_model: MakeModel) -> None:
    model, env = make_model(A2C)
    state = model_state(model, env)
    del state["parameters"]["policy"]
    with pytest.raises(ValueError, match="policy"):
        restore_model(model, env, state)


def test_random_generators_go_on_where_they_were() -> None:
    def draws() -> tuple[list[float], list[float]]:
        return torch.rand(3).tolist(), np.random.rand(3).tolist()  # noqa: NPY002 - stable-baselines3 uses it

    before = random_state()
    first, second = draws(), draws()
    assert first != second
    set_random_state(before)
    assert draws() == first and draws() == second
