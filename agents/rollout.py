"""Trajectories through the torch vector environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from agents.policy import DenoisingPolicy
from diffusion_env.vector_env import DDPMShortcutVectorEnv


class Trajectories(NamedTuple):
    """B finished samples and the way there; nothing here carries a gradient."""

    xs: Tensor  # (K + 1, B, *shape), x[0] ... x[K]
    log_prob: Tensor  # (K, B), log p(x[k+1] | x[k]) under the policy that acted

    @property
    def x0(self) -> Tensor:
        """The finished samples x_0 = x[K], (B, *shape)."""
        return self.xs[-1]


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
