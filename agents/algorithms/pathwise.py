r"""Pathwise gradient: back-propagation of the critic through the sampling chain, as a GAN trains its generator.

    x[k+1] = mean_theta(x[k]) + std[k] z[k],    z[k] ~ N(0, I),    loss = - mean f(x[K])

Letters: f, x[k], K, n as in `agents.core.ipm_agent`. Source: DRaFT, Clark et al., ICLR 2024, arXiv 2309.17400; with
backprop_steps = k its DRaFT-k, where the gradient runs through the last k steps alone; the alternative to policy
gradient that Fan & Lee 2023 discuss. Each step on theta walks the chain anew from the starts x[0] of the buffer.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agents.algorithms.config import PathwiseConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss
from agents.core.rollout import Trajectories


class Pathwise(IPMAgent):
    """Back-propagation through the chain or its last steps; options in `PathwiseConfig`."""

    name = "pathwise"
    config_class = PathwiseConfig
    config: PathwiseConfig
    uses_value = False

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """- mean f(x[K]) of n fresh chains, plus the KL penalty at the states they visit."""
        xs = self._walk(batch.xs[0])
        score = self.envs.critic(xs[-1]).mean()
        loss = -score, {"pathwise_loss": -score.detach()}
        if self.config.kl_coef == 0:
            return loss
        states = torch.stack(xs[:-1]).detach()  # each step answers for itself, as in the other agents
        return self.with_kl(loss, self.policy(states, self.rows), states, self.rows)

    def _walk(self, x: Tensor) -> list[Tensor]:
        """x[0] ... x[K], each (n, *shape), with a gradient from step K - backprop_steps on."""
        num_steps = self.policy.table.num_steps
        first = max(0, num_steps - (self.config.backprop_steps or num_steps))
        xs = [x]
        for k in range(num_steps):
            z = torch.randn(x.shape, generator=self.generator, device=self.device)
            with torch.set_grad_enabled(k >= first):
                xs.append(self._step(xs[-1], z, k))
        return xs

    def _step(self, x: Tensor, z: Tensor, k: int) -> Tensor:
        move = partial(self._move, k=k)
        if self.config.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(move, x, z, use_reentrant=False)
        return move(x, z)

    def _move(self, x: Tensor, z: Tensor, k: int) -> Tensor:
        return self.policy(x, k).at(z)
