r"""DxDP: the gradient of the next state's value, one reparametrised step at a time.

    x' = mean_theta(x[k]) + std[k] z,    z ~ N(0, I)
    loss = - mean over k [ V(x', k + 1) + tau_1 H_k - tau_2 |x' - x[k]|^2 / 2 ],    V(., K) = f

Letters: H_k the entropy of a step; tau_1 entropy_coef; tau_2 velocity_coef; f, V, x[k], K as in
`agents.core.ipm_agent`. Source: diffusion by dynamic programming of DxMI, Yoon et al., NeurIPS 2024, arXiv
2407.00626. Not taken over from DxMI: its K sequential TD steps for V, its time cost, its adaptive velocity. V is
regressed on f(x_0) less the velocity costs of the later steps (the paper bootstraps instead); the entropies of the
later steps do not depend on the state, so V leaves them out. No gradient runs through more than one step, so the
gradient of a step is only as accurate as the slope of V.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.algorithms.config import DxDPConfig
from agents.core.diagnostics import refuse_without_gradient
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss, velocity_cost
from agents.core.rollout import Trajectories


class DxDP(IPMAgent):
    """One-step value gradient; options in `DxDPConfig`."""

    name = "dxdp"
    needs_density = False
    config_class = DxDPConfig
    config: DxDPConfig

    def check(self) -> None:
        """As `IPMAgent.check`; ValueError too for the entropy of steps without noise, or a reward without gradient."""
        super().check()
        refuse_without_gradient(self.critic, self.dataset.train[:2], type(self).__name__)
        if self.config.entropy_coef > 0 and self.policy.noiseless_steps:
            raise ValueError(
                f"entropy_coef > 0 needs noise in every step, but the sampler {self.envs.table.name!r} has std 0 at "
                f"step(s) {self.policy.noiseless_steps}. Give min_std > 0 or entropy_coef = 0."
            )

    def value_target(self, newest: Trajectories, score: Tensor) -> Tensor:
        """f(x_0) less tau_2 times the velocity cost from step k on, (K, B), from ``score`` f(x_0) (B,)."""
        target = super().value_target(newest, score)
        if self.config.velocity_coef == 0:
            return target
        cost = velocity_cost(newest.xs[:-1], newest.xs[1:], len(self.policy.shape))  # (K, B)
        return target - self.config.velocity_coef * cost.flip(0).cumsum(0).flip(0)

    def advantages(self, batch: Trajectories) -> None:
        """None: V itself is differentiated."""

    def noise(self, batch: Trajectories) -> Tensor:
        """z (K, n, *shape) of the draws x' at every state of ``batch``."""
        return self.ranks.normal(batch.xs[1:].shape, self.generator, self.device, dim=1)

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """- mean[ V(x', k + 1) ] at every state of the buffer, with a fresh draw x' for each."""
        c, x = self.config, batch.xs[:-1]
        law = self.policy(x, self.steps)
        x_next = law.at(self.noise(batch))
        value = self.next_value(x_next).mean()
        loss, metrics = -value, {"value_gradient_loss": -value.detach()}
        if not law.noiseless:
            metrics["entropy"] = law.entropy().mean().detach()
        if c.entropy_coef:
            loss = loss - c.entropy_coef * law.entropy().mean()
        if c.velocity_coef:
            loss = loss + c.velocity_coef * velocity_cost(x, x_next, len(self.policy.shape)).mean()
        return self.with_kl((loss, metrics), law, x, self.steps)

    def next_value(self, x_next: Tensor) -> Tensor:
        """V(x[k+1], k + 1) (K, n) of x_next (K, n, *shape); after the last step that is f."""
        final = self.reward_of(x_next[-1:])
        return torch.cat([self.value(x_next[:-1], self.steps[1:]), final]) if len(x_next) > 1 else final
