r"""Pathwise gradient: back-propagation of the critic through the sampling chain, as a GAN trains its generator.

    x[k+1] = mean_theta(x[k]) + std[k] z[k],    z[k] ~ N(0, I),    loss = - mean f(x[K])

Letters: f, x[k], K, n as in `agents.core.ipm_agent`. Source: DRaFT, Clark et al., ICLR 2024, arXiv 2309.17400; with
backprop_steps = k its DRaFT-k, where the gradient runs through the last k steps alone; the alternative to policy
gradient that Fan & Lee 2023 discuss. It is not ShortFT, which needs a second, distilled model. Each step on theta
walks the chain again from the starts x[0] of the buffer. No density is used, so steps without noise (DDIM) are taken
too.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from agents.algorithms.config import PathwiseConfig
from agents.algorithms.presets import PRESETS
from agents.core.config import AgentConfig
from agents.core.diagnostics import refuse_without_gradient
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss
from agents.core.rollout import Trajectories


class Pathwise(IPMAgent):
    """Back-propagation through the chain or its last steps; options in `PathwiseConfig`."""

    name = "pathwise"
    config_class = PathwiseConfig
    config: PathwiseConfig
    needs_density = False
    uses_value = False

    @classmethod
    def default_config(cls) -> AgentConfig:
        """The preset `pathwise`."""
        return PRESETS["pathwise"].config

    def check(self) -> None:
        """As `IPMAgent.check`; ValueError too where the reward has no gradient."""
        super().check()
        refuse_without_gradient(self.critic, self.dataset.train[:2], type(self).__name__)

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """- mean f(x[K]) of n fresh chains, plus the KL penalty at the states they visit; a scalar."""
        xs = self.chain(batch.xs[0], self.noise(batch))
        score = self.reward_of(xs[-1]).mean()
        loss = -score, {"pathwise_loss": -score.detach()}
        if self.config.kl_coef == 0:
            return loss
        states = torch.stack(xs[:-1]).detach()  # no gradient of a step's KL through the steps before it
        return self.with_kl(loss, self.policy(states, self.steps), states, self.steps)

    def noise(self, batch: Trajectories) -> Tensor:
        """z (K, n, *shape) of fresh chains from the starts of ``batch``, drawn step by step."""
        shape, steps = batch.x0.shape, range(self.policy.table.num_steps)
        return torch.stack([self.ranks.normal(shape, self.generator, self.device) for _ in steps])

    def chain(self, x: Tensor, noise: Tensor) -> list[Tensor]:
        """x[0] ... x[K] from ``x`` (n, *shape), each (n, *shape), with a gradient from step K - backprop_steps on.

        ``noise``: z of every step, (K, n, *shape).
        """
        c, num_steps = self.config, self.policy.table.num_steps
        first = max(0, num_steps - (c.backprop_steps or num_steps))
        xs = [x]
        for k, z in enumerate(noise):
            with torch.set_grad_enabled(k >= first):
                if c.gradient_checkpointing and k >= first:
                    xs.append(checkpoint(partial(self.move, k=k), xs[-1], z, use_reentrant=False))
                else:
                    xs.append(self.move(xs[-1], z, k))
        return xs

    def move(self, x: Tensor, z: Tensor, k: int) -> Tensor:
        """x[k+1] (n, *shape) from x[k] ``x`` (n, *shape) and the noise ``z`` (n, *shape)."""
        return self.policy(x, k).at(z)
