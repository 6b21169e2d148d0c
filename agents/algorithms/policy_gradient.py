r"""The step on theta of the score-function agents: - mean[ w A log p_theta(x[k+1] | x[k]) ] and its variants.

Letters: K steps, n trajectories; f(x_0) the critic's score (n,); V(x[k], k) the value (K, n); A the advantage (K, n);
w the weight of a step (K,); r the probability ratio of a step, now against then.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import PRESETS
from agents.core.advantages import (
    advantages,
    effective_sample_size,
    equal_step_weights,
    group_advantages,
    normalised,
    regression_weights,
)
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss, clipped_loss, ratio_error, score_function_loss
from agents.core.rollout import Trajectories


class Transitions(NamedTuple):
    """Steps x[k] -> x[k+1]: all of a buffer, (K, n, ...) with k (K, 1), or a minibatch (m, ...)."""

    x: Tensor
    x_next: Tensor
    k: Tensor
    advantage: Tensor
    old_log_prob: Tensor


class PolicyGradient(IPMAgent):
    """Every option of `PolicyGradientConfig`; the final classes are rows of `agents.algorithms.presets`."""

    config_class = PolicyGradientConfig
    config: PolicyGradientConfig

    @classmethod
    def default_config(cls) -> PolicyGradientConfig:
        """The preset with the agent's name."""
        found = PRESETS[cls.name].config
        assert isinstance(found, PolicyGradientConfig)
        return found

    def build(self, generator: torch.Generator) -> None:
        """As `IPMAgent.build`; ValueError unless groups divide the environments."""
        size = self.config.group_size
        if size is not None and self.num_envs % size:
            raise ValueError(
                f"Trajectories that share x[0] fill whole groups: num_envs must be a multiple of group_size = {size}; "
                f"received num_envs = {self.num_envs}."
            )
        self.uses_value = self.config.baseline == "value"
        super().build(generator)

    def start(self) -> Tensor:
        """x[0] of the next rollout (B, *shape): neighbours share it in groups of ``group_size``."""
        if self.config.group_size is None:
            return super().start()
        shape = (self.num_envs // self.config.group_size, *self.envs.dataset.shape)
        x = torch.randn(shape, generator=self.generator, device=self.device)
        x = x.repeat_interleave(self.config.group_size, dim=0)
        return self.envs.reset(options={"x": x})[0]["x"]

    @torch.no_grad()
    def advantages(self, batch: Trajectories) -> Tensor:
        """A (K, n), with f and V of now; with surrogate "regression" already the weights exp(A / temperature)."""
        c = self.config
        advantage = self._baselined(batch, self.envs.critic(batch.x0))
        if c.advantage_normalization != "none":
            group_size = c.group_size if c.advantage_normalization == "group" else None
            advantage = normalised(advantage, c.advantage_std_floor, group_size)
        return regression_weights(advantage, c.temperature) if c.surrogate == "regression" else advantage

    def _baselined(self, batch: Trajectories, score: Tensor) -> Tensor:
        c = self.config
        if c.baseline == "value":
            return advantages(self.value(batch.xs[:-1], self.rows), score, c.gae_lambda)
        if c.baseline == "group":
            assert c.group_size is not None
            advantage = group_advantages(score, c.group_size)
        else:
            advantage = score - self.envs.critic(self.envs.data_batch()).mean()
        return advantage.expand_as(batch.log_prob)

    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """- mean[ w A log p ] or its variants, plus the KL penalty; ratio 1 is checked on the ``first`` step."""
        assert advantage is not None
        c, t = self.config, self._transitions(batch, advantage)
        law = self.policy(t.x, t.k)
        log_prob = law.log_prob(t.x_next)
        weighted = t.advantage if c.step_weight == "uniform" else t.advantage * self.step_weights[t.k]
        if c.surrogate == "clip":
            loss, metrics = clipped_loss(log_prob, t.old_log_prob, weighted, c.clip_range)
        else:
            loss, metrics = score_function_loss(log_prob, weighted)
        if c.surrogate == "regression":
            metrics["effective_sample_size"] = effective_sample_size(t.advantage)
        if first:
            metrics["ratio_error"] = ratio_error(log_prob, t.old_log_prob)
        return self.with_kl((loss, metrics), law, t.x, t.k)

    def _transitions(self, batch: Trajectories, advantage: Tensor) -> Transitions:
        """The whole buffer, or a random minibatch of its transitions."""
        xs, size, total = batch.xs, self.config.minibatch_size, advantage.numel()
        if size is None or size >= total:
            return Transitions(xs[:-1], xs[1:], self.rows, advantage, batch.log_prob)
        flat = torch.randperm(total, generator=self.generator, device=self.device)[:size]
        k, i = flat // advantage.shape[1], flat % advantage.shape[1]
        return Transitions(xs[k, i], xs[k + 1, i], k, advantage[k, i], batch.log_prob[k, i])

    @property
    def step_weights(self) -> Tensor:
        """w (K,) of step_weight "equal"."""
        return equal_step_weights(self.policy.sampling_table)
