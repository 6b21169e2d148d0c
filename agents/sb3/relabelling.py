"""Replay for a reward that moves: stored samples are scored anew by the newest critic."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.type_aliases import DictReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.seeds import stream

DATA_BATCH = 512


class NewestReward:
    """f(x_0) - mean f(data) by an environment's critic as it is now.

    The mean is over `DATA_BATCH` fresh training points in every call, drawn from a generator of its own: the
    environment's draws are the same with and without it. When SB3 pickles it to save a model, the environment
    is left out; a later call raises an error that says how to give it one.
    """

    def __init__(self, env: DDPMShortcutVecEnv, seed: int = 0) -> None:
        self.env: DDPMShortcutVecEnv | None = env
        self.generator = stream(seed, "relabelling", env.dataset.device)

    @torch.no_grad()
    def __call__(self, x0: Tensor) -> Tensor:
        """Rewards (B,) of finished samples x0 (B, *shape), network units, on x0's device."""
        if self.env is None:
            raise RuntimeError(
                "The reward was saved without its environment. Load the model with SAC.load(path, env=env, "
                "**relabelling_kwargs(env)), or set model.replay_buffer.reward = NewestReward(env)."
            )
        critic, data = self.env.critic, self.env.dataset
        real = data.sample(DATA_BATCH, self.generator)
        return (critic(x0.to(data.device)) - critic(real).mean()).to(x0.device)

    def __getstate__(self) -> dict[str, Any]:
        return {"env": None}


class RelabellingReplayBuffer(DictReplayBuffer):
    """SB3's replay buffer of dict observations, with an option for learned rewards.

    Args:
        buffer_size: transitions, of all environments together.
        observation_space: the environment's.
        action_space: the environment's.
        device: of the samples.
        n_envs: number of environments.
        optimize_memory_usage: SB3's; must be False for dict observations.
        handle_timeout_termination: SB3's; nothing times out here.
        reward: scores finished samples by the newest critic.
        relabel: whether sampled episode ends carry the ``reward`` of now; False keeps the stored ones,
            which the critic of that time gave. All other rewards are 0 either way.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        *,
        reward: NewestReward,
        relabel: bool = True,
    ) -> None:
        super().__init__(
            buffer_size,
            observation_space,
            action_space,
            device,
            n_envs,
            optimize_memory_usage,
            handle_timeout_termination,
        )
        self.reward, self.relabel = reward, relabel

    def _get_samples(  # type: ignore[override]
        self, batch_inds: NDArray[np.int_], env: VecNormalize | None = None
    ) -> DictReplayBufferSamples:
        samples = super()._get_samples(batch_inds, env)
        if not self.relabel:
            return samples
        if env is not None:
            raise ValueError(
                "The newest critic scores samples in network units, and VecNormalize changes them. Train without "
                "VecNormalize, or with relabel=False."
            )
        # Every transition is scored and the episode ends are kept: picking them would wait for the device.
        rewards = self.reward(samples.next_observations["x"]).unsqueeze(1)
        return samples._replace(rewards=rewards.where(samples.dones > 0, 0.0))


def relabelling_kwargs(env: DDPMShortcutVecEnv, relabel: bool = True) -> dict[str, Any]:
    """Keywords that give SAC, TD3 or DDPG this buffer: ``SAC(policy, env, **relabelling_kwargs(env))``."""
    return {
        "replay_buffer_class": RelabellingReplayBuffer,
        "replay_buffer_kwargs": {"reward": NewestReward(env), "relabel": relabel},
    }
