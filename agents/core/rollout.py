"""The torch vector environment of an agent, and trajectories through it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor

from agents.core.policy import DenoisingPolicy
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.vector_env import DDPMShortcutVectorEnv


def make_envs(env_id: str, num_envs: int, env_kwargs: Mapping[str, Any], device: torch.device) -> DDPMShortcutVectorEnv:
    """The torch environments of an agent, which acts in Gaussian steps and trains the critic itself (algorithm 1)."""
    if env_kwargs.get("action_mode", "step") != "step":
        raise ValueError(
            "An agent scores its own Gaussian steps and acts in action_mode 'step'; received "
            f"{env_kwargs['action_mode']!r}. Leave action_mode out of env_kwargs."
        )
    kwargs = {**env_kwargs, "array_type": "torch", "device": device, "train_critic": False}
    envs = gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    if not isinstance(envs, DDPMShortcutVectorEnv):
        raise TypeError(f"{env_id!r} makes a {type(envs).__name__}; agents train a DDPMShortcutVectorEnv.")
    return envs


def required_denoiser(envs: DDPMShortcutVectorEnv) -> Denoiser:
    """The pretrained network to start from; ValueError where there is none."""
    if envs.denoiser is None:
        raise ValueError(
            f"The data set {envs.dataset.name!r} has no shipped denoiser to start from. Pretrain one (`ddpm-shortcut "
            "pretrain --dataset ... --output net.safetensors`) and pass env_kwargs=dict(denoiser='net.safetensors')."
        )
    return envs.denoiser


class Trajectories(NamedTuple):
    """B finished samples and the way there; nothing here carries a gradient."""

    xs: Tensor  # (K + 1, B, *shape), x[0] ... x[K]
    log_prob: Tensor  # (K, B), log p(x[k+1] | x[k]) under the policy that acted

    @property
    def x0(self) -> Tensor:
        """The finished samples x_0 = x[K], (B, *shape)."""
        return self.xs[-1]


def concatenated(buffer: Sequence[Trajectories]) -> Trajectories:
    """The trajectories of several rollouts as one batch."""
    return Trajectories(torch.cat([t.xs for t in buffer], dim=1), torch.cat([t.log_prob for t in buffer], dim=1))


@torch.no_grad()
def collect(
    envs: DDPMShortcutVectorEnv,
    policy: DenoisingPolicy,
    x: Tensor,
    generator: torch.Generator,
    on_step: Callable[[bool], bool],
) -> tuple[Trajectories | None, Tensor]:
    """Walk all environments from their start ``x`` (B, *shape) to the end of the episode.

    ``on_step(ended)`` is called after each step. Returns the trajectories and the next start; None instead of
    trajectories when ``on_step`` said stop. Raises FloatingPointError when the policy's action is not finite.
    """
    xs, log_probs = [x], []
    num_steps = policy.table.num_steps
    for k in range(num_steps):
        law = policy(x, k)
        wanted = law.sample(generator)
        try:
            observation, _, _, _, infos = envs.step(policy.action(x, wanted, k))
        except ValueError as error:  # the action's shape is right: it was not finite
            raise FloatingPointError(f"The policy's own action at step {k} was refused. {error}") from error
        x = infos["final_obs"]["x"] if "final_obs" in infos else observation["x"]
        xs.append(x)
        log_probs.append(law.log_prob(x))
        if not on_step(k == num_steps - 1):
            return None, observation["x"]
    return Trajectories(torch.stack(xs), torch.stack(log_probs)), observation["x"]
