"""TorchRL on the environment: its check of specs, rollouts, seeds, and what it makes of each autoreset mode."""

from typing import Any

import gymnasium as gym
import pytest
import torch
from gymnasium.vector import AutoresetMode
from tensordict import TensorDict  # type: ignore[import-untyped]
from torch import Tensor
from torchrl.envs import GymEnv, GymWrapper, check_env_specs  # type: ignore[import-untyped]

import diffusion_env  # noqa: F401  # registers the id

ID = "DDPMShortcut-v0"
NUM_ENVS, NUM_STEPS = 4, 3
SMALL: dict[str, Any] = {"dataset": "gaussians8", "num_steps": NUM_STEPS}
ARRAYS = ["numpy", "torch"]


def batched(mode: AutoresetMode, array_type: str = "torch", categorical: bool = False) -> Any:
    envs = gym.make_vec(ID, NUM_ENVS, array_type=array_type, autoreset_mode=mode, **SMALL)
    to_numpy = array_type == "numpy"
    return GymWrapper(envs, convert_actions_to_numpy=to_numpy, categorical_action_encoding=categorical)


def sync(mode: AutoresetMode, categorical: bool = False) -> Any:
    envs = gym.make_vec(ID, NUM_ENVS, vectorization_mode="sync", vector_kwargs={"autoreset_mode": mode}, **SMALL)
    return GymWrapper(envs, categorical_action_encoding=categorical)


def zero(state: TensorDict) -> TensorDict:
    return state.set("action", torch.zeros(*state.batch_size, 2))


def episodes_of(env: Any, seed: int = 0) -> Any:
    env.set_seed(seed)
    return env.rollout(2 * NUM_STEPS, policy=zero, break_when_any_done=False)


def steps(rollout: Any) -> Tensor:
    """The steps done after each action, (..., T), from the one-hot observation."""
    return rollout["next", "step"].argmax(-1)


class TestSpecs:
    @pytest.mark.parametrize("categorical", [False, True])
    def test_single(self, categorical: bool) -> None:
        check_env_specs(GymEnv(ID, categorical_action_encoding=categorical, **SMALL))

    @pytest.mark.parametrize("array_type", ARRAYS)
    @pytest.mark.parametrize("categorical", [False, True])
    def test_native_batch(self, array_type: str, categorical: bool) -> None:
        env = batched(AutoresetMode.DISABLED, array_type, categorical)
        check_env_specs(env)
        assert env.batch_size == (NUM_ENVS,)


class TestRollouts:
    def test_single(self) -> None:
        rollout = episodes_of(GymEnv(ID, **SMALL))
        assert steps(rollout).tolist() == [1, 2, 3] * 2
        assert rollout["next", "terminated"].flatten().tolist() == [False, False, True] * 2
        assert (rollout["next", "reward"].flatten() != 0).tolist() == [False, False, True] * 2

    @pytest.mark.parametrize("array_type", ARRAYS)
    def test_native_batch(self, array_type: str) -> None:
        rollout = episodes_of(batched(AutoresetMode.DISABLED, array_type))
        assert steps(rollout).tolist() == [[1, 2, 3] * 2] * NUM_ENVS
        assert (rollout["next", "reward"].squeeze(-1) != 0).tolist() == [[False, False, True] * 2] * NUM_ENVS

    def test_both_array_types_give_the_same_samples(self) -> None:
        numpy, torch_ = (episodes_of(batched(AutoresetMode.DISABLED, array_type)) for array_type in ARRAYS)
        assert torch.equal(numpy["next", "x"], torch_["next", "x"])

    def test_the_seed_is_the_environment_s(self) -> None:
        for make in (lambda: GymEnv(ID, **SMALL), lambda: batched(AutoresetMode.DISABLED)):
            first, second, other = (episodes_of(make(), seed) for seed in (0, 0, 1))
            for key in ("x", "reward"):
                assert torch.equal(first["next", key], second["next", key])
                assert not torch.equal(first["next", key], other["next", key])


class TestAutoreset:
    """The page sends TorchRL's users to DISABLED; the others fail alike on Gymnasium's own batch."""

    def test_the_finished_sample_is_the_terminal_observation_in_disabled(self) -> None:
        envs: Any = gym.make_vec(ID, NUM_ENVS, array_type="torch", autoreset_mode=AutoresetMode.DISABLED, **SMALL)
        rollout = episodes_of(GymWrapper(envs, convert_actions_to_numpy=False))
        assert torch.equal(rollout["next", "x"][:, -1], envs.unwrapped.process.x)

    def test_same_step_loses_it_here_as_with_gymnasium_s_own(self) -> None:
        for make in (batched, sync):
            rollout = episodes_of(make(AutoresetMode.SAME_STEP, categorical=True))
            ended = rollout["next", "done"].squeeze(-1)
            assert ended.sum() == 2 * NUM_ENVS and not rollout["next", "x"][ended].any()
            assert rollout["next", "reward"][ended].all()

    def test_next_step_is_refused_here_as_with_gymnasium_s_own(self) -> None:
        for make in (batched, sync):
            with pytest.raises(RuntimeError, match="SAME_STEP or DISABLED"):
                make(AutoresetMode.NEXT_STEP)
