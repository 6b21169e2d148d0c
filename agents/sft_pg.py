r"""SFT-PG: shortcut fine-tuning with policy gradient (Fan & Lee, ICML 2023), algorithm 1 on one page.

Letters: theta the sampler's weights; B trajectories per rollout, K steps; x[k] the state after k steps, x_0 = x[K] the
sample; f the critic, high on data; V(x[k], k) the baseline; A the advantage of a step, f(x_0) - V(x[k], k) as published
(gae_lambda = 1) or its lambda-average. The theorem (4.1): the IPM's gradient is -E[ f(x_0) sum_k grad log
p_theta(x[k+1] | x[k]) ], so maximising f by policy gradient minimises the IPM.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.agent import Agent, StopTraining
from agents.config import SFTPGConfig
from agents.losses import Metrics, advantages, ratio_error, score_function_loss, value_loss
from agents.optimization import decayed, descend, refuse_non_finite, set_learning_rate
from agents.policy import DenoisingPolicy, ValueNet, all_rows
from agents.rollout import Trajectories, collect
from diffusion_env.critics.base import Penalty
from diffusion_env.denoisers import Denoiser

MAX_RATIO_ERROR = 0.01
"""A larger distance from 1 of the ratio p_now / p_then before the first policy step draws a warning."""


class SFTPG(Agent):
    """Policy gradient with a value baseline and a critic that learns beside it; see `Agent` for the verbs.

    Example::

        agent = SFTPG("DDPMShortcut-v0", num_envs=128, env_kwargs=dict(num_steps=10), seed=0, tensorboard_log="runs")
        agent.learn(total_timesteps=2_000_000, progress_bar=True)
        x0 = agent.sample(10_000)
    """

    name = "sft_pg"
    config_class = SFTPGConfig
    config: SFTPGConfig

    def build(self, generator: torch.Generator) -> None:
        """The sampler (a copy of the pretrained network), its average, V, and their optimizers."""
        c, table, shape = self.config, self.envs.table, self.envs.dataset.shape
        self.policy = DenoisingPolicy(copy.deepcopy(self.pretrained), table).to(self.device).requires_grad_(True)
        self.average = AveragedModel(self.policy.net, multi_avg_fn=get_ema_multi_avg_fn(c.ema_decay))
        self.value = ValueNet(shape, table.num_steps, c.value_width, c.value_depth, generator).to(self.device)
        adam = partial(torch.optim.Adam, betas=(c.adam_beta1, c.adam_beta2), fused=True)
        self.policy_optimizer = adam(self.policy.parameters(), lr=c.learning_rate)
        self.value_optimizer = adam(self.value.parameters(), lr=c.value_learning_rate)
        self.rows = all_rows(table.num_steps, self.device)  # (K, 1)
        self.newest: Trajectories | None = None

    def iterate(self) -> dict[str, float | Tensor]:
        """Algorithm 1: n_critic rollouts that teach f and V, then n_generator steps on theta."""
        self._set_learning_rates()
        buffer: list[Trajectories] = []
        for _ in range(self.config.n_critic):
            buffer.append(self._rollout())
            critic_metrics = self._update_critic(buffer[-1])
            value_metrics = self._update_value(buffer[-1])
        self.newest = buffer[-1]
        policy_metrics = [self._update_policy(buffer) for _ in range(self.config.n_generator)]
        self.ratio_error = policy_metrics[0].pop("ratio_error")  # of the first step: the policy has not moved yet
        return {
            **{f"critic/{key}": value for key, value in critic_metrics.items()},
            **{f"train/{key}": value for key, value in (value_metrics | policy_metrics[-1]).items()},
            "rollout/ep_rew_mean": -critic_metrics["ipm"],
            "train/learning_rate": self.policy_optimizer.param_groups[0]["lr"],
        }

    def _rollout(self) -> Trajectories:
        assert self.next_start is not None
        start, self.next_start = self.next_start, None
        trajectories, next_start = collect(self.envs, self.policy, start, self.generator, self.on_step)
        if trajectories is None:
            raise StopTraining
        self.next_start = next_start
        return trajectories

    def _update_critic(self, newest: Trajectories) -> dict[str, float]:
        """One step on f: maximise mean f(data) - mean f(x_0), within the critic's regulariser."""
        if not self.train_critic:
            return {"ipm": self.envs.critic.distance(self.envs.data_batch(), newest.x0)}
        return self.envs.update_critic(newest.x0, self._value_penalty(newest))

    def _value_penalty(self, newest: Trajectories) -> Penalty | None:
        """SFT-PG (B): the value error's gradient reaches the critic too (section 4.3 of the paper)."""
        if self.envs.critic.name != "baseline":
            return None
        with torch.no_grad():
            value = self.value(newest.xs[:-1], self.rows)  # (K, B)
        return lambda f_fake: self.config.value_loss_weight * (value - f_fake).square().mean()

    def _update_value(self, newest: Trajectories) -> Metrics:
        """One step on V: squared error to f(x_0), f of now, at every step of the newest batch."""
        with torch.no_grad():
            f = self.envs.critic(newest.x0)  # (B,)
        refuse_non_finite(self.iteration, critic_score=f)
        loss, metrics = value_loss(self.value(newest.xs[:-1], self.rows), f)
        return {**metrics, "value_grad_norm": descend("value", loss, self.value_optimizer, self.iteration)}

    def _update_policy(self, buffer: list[Trajectories]) -> Metrics:
        """One step on theta: - mean[ A log p_theta(x[k+1] | x[k]) ], with f and V of now."""
        x, x_next, k, advantage, old_log_prob = self._transitions(buffer)
        log_prob = self.policy(x, k).log_prob(x_next)
        loss, metrics = score_function_loss(log_prob, advantage)
        norm = descend("policy", loss, self.policy_optimizer, self.iteration, self.config.max_grad_norm)
        self.average.update_parameters(self.policy.net)
        return {**metrics, "grad_norm": norm, "ratio_error": ratio_error(log_prob, old_log_prob)}

    @torch.no_grad()
    def _transitions(self, buffer: list[Trajectories]) -> tuple[Tensor, ...]:
        """x[k], x[k+1], k, A and log p at the rollout: of the whole buffer, (K, n, ...), or of a random minibatch."""
        xs = torch.cat([t.xs for t in buffer], dim=1)  # (K + 1, n, *shape)
        log_prob = torch.cat([t.log_prob for t in buffer], dim=1)  # (K, n)
        value, score = self.value(xs[:-1], self.rows), self.envs.critic(xs[-1])  # (K, n), (n,)
        advantage = advantages(value, score, self.config.gae_lambda)
        size, total = self.config.minibatch_size, advantage.numel()
        if size is None or size >= total:
            return xs[:-1], xs[1:], self.rows, advantage, log_prob
        flat = torch.randperm(total, generator=self.generator, device=self.device)[:size]
        k, i = flat // advantage.shape[1], flat % advantage.shape[1]
        return xs[k, i], xs[k + 1, i], k, advantage[k, i], log_prob[k, i]

    def _set_learning_rates(self) -> None:
        c, left = self.config, self.progress_remaining
        set_learning_rate(self.policy_optimizer, decayed(c.learning_rate, c.lr_schedule, left))
        set_learning_rate(self.value_optimizer, decayed(c.value_learning_rate, c.lr_schedule, left))
        self.envs.critic.set_learning_rate(decayed(c.critic_learning_rate, c.lr_schedule, left))

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """Ratio check, KL to the pretrained sampler, the critic's slope and its gap on data it never saw."""
        assert self.newest is not None
        xs, critic, data = self.newest.xs, self.envs.critic, self.envs.dataset
        pretrained = DenoisingPolicy(self.pretrained, self.policy.table)
        kl = self.policy(xs[:-1], self.rows).kl(pretrained(xs[:-1], self.rows)).mean(-1)  # (K,)
        draws = torch.Generator(self.device).manual_seed(self.iteration)  # of their own: logging must not change a run
        held_out = data.sample(xs.shape[1], draws, held_out=True)
        return {
            **{f"kl_to_pretrained/step_{k:04d}": value for k, value in enumerate(kl.tolist())},
            "train/kl_to_pretrained": float(kl.sum()),
            "train/ratio_error": self._checked_ratio_error(),
            "critic/gap_held_out": critic.distance(held_out, self.newest.x0),
            "critic/lipschitz": critic.lipschitz(held_out),
        }

    def _checked_ratio_error(self) -> float:
        error = float(self.ratio_error)
        if not error <= MAX_RATIO_ERROR:
            warnings.warn(
                f"Before the first policy step of iteration {self.iteration} the probability ratio of the policy to "
                f"itself was off 1 by {error:.2g} (allowed: {MAX_RATIO_ERROR}). Something changed the policy between "
                "rollout and update, or its network is not deterministic (dropout, batch norm): a biased gradient.",
                stacklevel=2,
            )
        return error

    @property
    def sampler(self) -> DenoisingPolicy:
        """The averaged sampler."""
        return DenoisingPolicy(cast(Denoiser, self.average.module), self.policy.table)

    def state_dict(self) -> dict[str, Any]:
        """Networks, average and optimizers."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "average": self.average,
            "value": self.value,
            "policy_optimizer": self.policy_optimizer,
            "value_optimizer": self.value_optimizer,
        }
