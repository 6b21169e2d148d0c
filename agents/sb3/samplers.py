"""Samples of a stable-baselines3 model: its policy walks a critic-free copy of the environment it was trained in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise, VectorizedActionNoise
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from agents.core.algorithm import SeededSample
from diffusion_env.critics import FrozenCritic
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.seeds import stream_seed
from diffusion_env.vector_env import DDPMShortcutVectorEnv

Environment = DDPMShortcutEnv | DDPMShortcutVectorEnv
Act = Callable[[dict[str, Any]], NDArray[np.float32]]


def environment_in(env: VecEnv | None) -> Environment:
    """The (first) environment inside SB3's ``env``: the adapter, or DummyVecEnv and SubprocVecEnv, wrapped or not."""
    found = None if env is None else env.get_attr("unwrapped", 0)[0]
    if not isinstance(found, (DDPMShortcutEnv, DDPMShortcutVectorEnv)):
        raise TypeError(
            f"A sampler needs the environment its model was trained in; received one of {type(found).__name__}. Pass "
            "env=, or load the model with its environment."
        )
    return found


def sb3_sampler(model: BaseAlgorithm, env: VecEnv | None = None, deterministic: bool = False) -> SeededSample:
    """A function (n, seed) -> n samples (n, *shape) in data units that walks the policy of ``model``.

    The policy acts as in training: with its own noise and, for algorithms that explore with an ``action_noise`` (TD3),
    with that; ``deterministic`` leaves both out. Neither the training environment nor any global random state moves.

    Args:
        model: any SB3 algorithm; later calls of the function use its newest weights.
        env: where data, table and action mode come from; None takes the model's own environment.
        deterministic: whether the policy takes its mean action.

    Raises TypeError where there is no such environment.
    """
    found = environment_in(model.get_env() if env is None else env)

    def sample(n: int, seed: int) -> Tensor:
        envs = _without_critic(found, n)
        with _own_random_state(seed, model.device):
            x0 = _walk(envs, _acting(model, n, deterministic), seed)
        return found.dataset.to_data(torch.from_numpy(x0).to(found.dataset.device))

    return sample


def _without_critic(found: Environment, n: int) -> DDPMShortcutVectorEnv:
    return DDPMShortcutVectorEnv(
        n,
        dataset=found.dataset,
        num_steps=found.table.num_steps,
        sampler=found.table,
        action_mode=found.action_mode,
        denoiser=found.denoiser,
        critic=FrozenCritic(lambda x: x.new_zeros(len(x))),
        train_critic=False,
        device=found.dataset.device,
        autoreset_mode=AutoresetMode.DISABLED,
    )


def _walk(envs: DDPMShortcutVectorEnv, act: Act, seed: int) -> NDArray[np.float32]:
    observation, _ = envs.reset(seed=seed)
    for _ in range(envs.table.num_steps):
        observation, *_ = envs.step(act(observation))
    x0: NDArray[np.float32] = observation["x"]
    return x0


def _acting(model: BaseAlgorithm, n: int, deterministic: bool) -> Act:
    """How ``model`` acts in n environments at once."""
    normalizer = model.get_vec_normalize_env()
    noise = None if deterministic else _batched(getattr(model, "action_noise", None), n)

    def act(observation: dict[str, Any]) -> NDArray[np.float32]:
        seen = observation if normalizer is None else normalizer.normalize_obs(observation)
        action, _ = model.predict(seen, deterministic=deterministic)
        if noise is not None:  # SB3 adds it to actions that are scaled to [-1, 1]
            scaled = np.clip(model.policy.scale_action(action) + noise(), -1, 1)
            action = model.policy.unscale_action(scaled)
        return action.astype(np.float32, copy=False)

    return act


def _batched(noise: ActionNoise | None, n: int) -> VectorizedActionNoise | None:
    if isinstance(noise, VectorizedActionNoise):  # what SB3 makes of it when a run starts
        noise = noise.noises[0]
    return None if noise is None else VectorizedActionNoise(copy.deepcopy(noise), n)


@contextmanager
def _own_random_state(seed: int, device: torch.device) -> Iterator[None]:
    """SB3's policies draw from torch's and numpy's global generators: seed them, and afterwards put them back."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(seed, "sampling"))
        np.random.seed(stream_seed(seed, "sampling") % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
