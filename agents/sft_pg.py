r"""SFT-PG: shortcut fine-tuning with policy gradient (Fan & Lee, ICML 2023), algorithm 1 on one page.

Letters: theta the sampler's weights; B trajectories per rollout, K steps; x[k] the state after k steps, x_0 = x[K] the
sample; f the critic, high on data; V(x[k], k) the baseline; A = f(x_0) - V(x[k], k). The theorem (4.1): the IPM's
gradient is -E[ f(x_0) sum_k grad log p_theta(x[k+1] | x[k]) ], so maximising f by policy gradient minimises the IPM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.agent import Agent, StopTraining, clipped_step, decayed, refuse_non_finite, set_learning_rate
from agents.config import SFTPGConfig
from agents.losses import Metrics, score_function_loss, value_loss
from agents.policy import DenoisingPolicy, ValueNet, all_rows
from agents.rollout import Trajectories, collect
from diffusion_env.critics.base import Penalty
from diffusion_env.denoisers import Denoiser


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
        self.policy = DenoisingPolicy(self.pretrained, table).to(self.device)
        self.average = AveragedModel(self.policy.net, multi_avg_fn=get_ema_multi_avg_fn(c.ema_decay))
        self.value = ValueNet(shape, table.num_steps, c.value_width, c.value_depth, generator).to(self.device)
        self.policy_optimizer = torch.optim.Adam(self.policy.parameters(), lr=c.learning_rate, fused=True)
        self.value_optimizer = torch.optim.Adam(self.value.parameters(), lr=c.value_learning_rate, fused=True)
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
        for _ in range(self.config.n_generator):
            policy_metrics = self._update_policy(buffer)
        self.average.update_parameters(self.policy.net)
        return {
            **{f"critic/{key}": value for key, value in critic_metrics.items()},
            **{f"train/{key}": value for key, value in (value_metrics | policy_metrics).items()},
            "rollout/ep_rew_mean": -critic_metrics["ipm"],
            "train/learning_rate": self.policy_optimizer.param_groups[0]["lr"],
        }

    def _rollout(self) -> Trajectories:
        assert self._x is not None
        trajectories, self._x = collect(self.envs, self.policy, self._x, self.generator, self.on_step)
        if trajectories is None:
            raise StopTraining
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
        loss, metrics = value_loss(self.value(newest.xs[:-1], self.rows), f)
        refuse_non_finite(self.iteration, value_loss=loss)
        metrics["value_grad_norm"] = clipped_step(self.value_optimizer, loss, self.value, None)
        return metrics

    def _update_policy(self, buffer: list[Trajectories]) -> Metrics:
        """One step on theta: - mean[ (f(x_0) - V(x[k], k)) log p_theta(x[k+1] | x[k]) ], f and V of now."""
        x, x_next, x0, k = self._transitions(buffer)
        with torch.no_grad():
            advantage = self.envs.critic(x0) - self.value(x, k)
        loss, metrics = score_function_loss(self.policy(x, k).log_prob(x_next), advantage)
        refuse_non_finite(self.iteration, policy_loss=loss)
        norm = clipped_step(self.policy_optimizer, loss, self.policy, self.config.max_grad_norm)
        refuse_non_finite(self.iteration, policy_grad_norm=norm)
        return {**metrics, "grad_norm": norm}

    def _transitions(self, buffer: list[Trajectories]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x[k], x[k+1], x_0 and k of the whole buffer, (K, n, *shape) with k (K, 1), or of a random minibatch."""
        xs = torch.cat([t.xs for t in buffer], dim=1)  # (K + 1, n, *shape)
        num_steps, n = len(xs) - 1, xs.shape[1]
        size = self.config.minibatch_size
        if size is None or size >= num_steps * n:
            return xs[:-1], xs[1:], xs[-1], self.rows
        flat = torch.randperm(num_steps * n, generator=self.generator, device=self.device)[:size]
        k, i = flat // n, flat % n
        return xs[k, i], xs[k + 1, i], xs[-1, i], k

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
        held_out = data.sample(xs.shape[1], self.sample_generator, held_out=True)
        return {
            **{f"kl_to_pretrained/step_{k:04d}": value for k, value in enumerate(kl.tolist())},
            "train/kl_to_pretrained": float(kl.sum()),
            "train/ratio_error": self.ratio_error,
            "critic/gap_held_out": critic.distance(held_out, self.newest.x0),
            "critic/lipschitz": critic.lipschitz(held_out),
        }

    @property
    def sampler(self) -> DenoisingPolicy:
        """The averaged sampler."""
        return DenoisingPolicy(self.average.module, self.policy.table)

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
