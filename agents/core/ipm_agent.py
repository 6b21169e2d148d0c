r"""What the algorithms share: algorithm 1 of Fan & Lee (ICML 2023) with the step on theta left open.

Letters: theta the sampler's weights; B trajectories per rollout, n = n_critic * B in the buffer, K steps; x[k] the
state after k steps, x_0 = x[K] the sample; f the critic, high on data; V(x[k], k) the baseline.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any, ClassVar, cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agents.core.agent import Agent, StopTraining
from agents.core.config import AgentConfig
from agents.core.losses import Loss, Metrics, mean_difference_z, value_loss
from agents.core.optimization import decayed, descend, refuse_non_finite, set_learning_rate
from agents.core.policy import DenoisingPolicy, all_rows
from agents.core.rollout import Trajectories, collect, concatenated
from agents.core.task import Task
from agents.core.value import ValueNet
from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.samplers.law import GaussianStep

HELD_OUT = 1024
"""The least number of data points, seen and never seen, on which the critic's overfitting is measured; where fewer
are held out, as many as those."""


class IPMAgent(Agent):
    """Rollouts teach critic and value, then the sampler takes its steps; see `Agent` for the verbs.

    A final class names itself and writes ``policy_loss``. Its defaults are the preset with its name.
    """

    config_class: ClassVar[type[AgentConfig]] = AgentConfig
    config: AgentConfig
    uses_value: bool = True
    """Whether the step on theta needs V."""

    @classmethod
    def default_config(cls) -> AgentConfig:
        """The defaults of ``config_class``."""
        return cls.config_class()

    def advantages(self, batch: Trajectories) -> Tensor | None:
        """What the steps on theta take from f and V of now, computed once for all n_generator of them."""
        return None

    @abstractmethod
    def policy_loss(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Loss:
        """Loss of one step on theta and its metrics, on the whole buffer ``batch``.

        ``first``: theta is still the one that made the buffer.
        """

    def build(self, generator: torch.Generator) -> None:
        """The sampler (a copy of the pretrained network), its average, V, and their optimizers."""
        c, table, shape = self.config, self.envs.table, self.envs.dataset.shape
        policy = partial(DenoisingPolicy, table=table, min_std=c.min_std)
        self.policy = policy(copy.deepcopy(self.pretrained), learn_std=c.std == "learned").to(self.device)
        self.policy.requires_grad_(True)
        self.reference = policy(self.pretrained)  # the pretrained sampler, of the same width
        self.average = AveragedModel(self.policy, multi_avg_fn=get_ema_multi_avg_fn(c.ema_decay))
        self.value = ValueNet(shape, table.num_steps, c.value_width, c.value_depth, generator).to(self.device)
        adam = partial(torch.optim.Adam, betas=(c.adam_beta1, c.adam_beta2), fused=True)
        self.policy_optimizer = adam(self._parameter_groups(), lr=c.learning_rate)
        self.value_optimizer = adam(self.value.parameters(), lr=c.value_learning_rate)
        self.rows = all_rows(table.num_steps, self.device)  # (K, 1)
        self.newest: Trajectories | None = None

    def _parameter_groups(self) -> list[dict[str, Any]]:
        groups: list[dict[str, Any]] = [{"params": list(self.policy.net.parameters())}]
        if self.policy.log_std_ratio is not None:
            groups.append({"params": [self.policy.log_std_ratio], "lr_scale": self.config.std_lr_scale})
        return groups

    def iterate(self) -> dict[str, float | Tensor]:
        """Algorithm 1: n_critic rollouts that teach f and V, then n_generator steps on theta."""
        self._set_learning_rates()
        buffer: list[Trajectories] = []
        for _ in range(self.config.n_critic):
            buffer.append(self._rollout())
            critic_metrics, value_metrics = self._teach(buffer[-1])
        self.newest, batch = buffer[-1], concatenated(buffer)
        advantage, policy_metrics = self.advantages(batch), Metrics()
        for step in range(self.config.n_generator):
            policy_metrics |= self._update_policy(batch, advantage, first=step == 0)
        return {
            **{f"critic/{key}": value for key, value in critic_metrics.items()},
            **{f"train/{key}": value for key, value in (value_metrics | policy_metrics).items()},
            "rollout/ep_rew_mean": -critic_metrics["ipm"],
            "train/learning_rate": self.policy_optimizer.param_groups[0]["lr"],
        }

    @property
    def trains_value(self) -> bool:
        """Whether anything asks for V: the algorithm, or the critic "baseline"."""
        return self.uses_value or self.envs.critic.name == "baseline"

    def start(self) -> Tensor:
        """Where the next rollout begins, (B, *shape)."""
        assert self.next_start is not None
        return self.next_start

    def _rollout(self) -> Trajectories:
        start, self.next_start = self.start(), None
        trajectories, next_start = collect(self.envs, self.policy, start, self.generator, self.on_step)
        if trajectories is None:
            raise StopTraining
        self.next_start = next_start
        return trajectories

    def _teach(self, newest: Trajectories) -> tuple[dict[str, float], Metrics]:
        """One step on f and one on V.

        With (B) they descend one loss together, so V regresses f as it was before its step: a V that runs after the
        newest f takes away all that holds it, and both grow without end.
        """
        score = self._score(newest) if self.envs.critic.name == "baseline" else None
        critic_metrics = self._update_critic(newest)
        if not self.trains_value:
            return critic_metrics, {}
        return critic_metrics, self._update_value(newest, self._score(newest) if score is None else score)

    @torch.no_grad()
    def _score(self, newest: Trajectories) -> Tensor:
        return self.envs.critic(newest.x0)

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

    def _update_value(self, newest: Trajectories, score: Tensor) -> Metrics:
        """One step on V: squared error to its target, made of ``score`` f(x_0) (B,), at every step of the batch."""
        target = self.value_target(newest, score)
        refuse_non_finite(self.iteration, critic_score=target)
        loss, metrics = value_loss(self.value(newest.xs[:-1], self.rows), target)
        return {**metrics, "value_grad_norm": descend("value", loss, self.value_optimizer, self.iteration)}

    def value_target(self, newest: Trajectories, score: Tensor) -> Tensor:
        """What V regresses, (B,) or (K, B): f(x_0) (B,), for every step alike."""
        return score

    def _update_policy(self, batch: Trajectories, advantage: Tensor | None, first: bool) -> Metrics:
        """One step on theta, then one of the average."""
        loss, metrics = self.policy_loss(batch, advantage, first)
        norm = descend("policy", loss, self.policy_optimizer, self.iteration, self.config.max_grad_norm)
        self.average.update_parameters(self.policy)
        return {**metrics, "grad_norm": norm}

    def with_kl(self, loss: Loss, law: GaussianStep, x: Tensor, k: Tensor) -> Loss:
        """``loss`` plus kl_coef * mean KL of ``law`` to the pretrained sampler's law at x[k] (Fan et al. 2023)."""
        if self.config.kl_coef == 0:
            return loss
        with torch.no_grad():
            reference = self.reference(x, k)
        kl = law.kl(reference).mean()
        return loss[0] + self.config.kl_coef * kl, {**loss[1], "kl_penalty": kl.detach()}

    def _set_learning_rates(self) -> None:
        c, left = self.config, self.progress_remaining
        set_learning_rate(self.policy_optimizer, decayed(c.learning_rate, c.lr_schedule, left))
        set_learning_rate(self.value_optimizer, decayed(c.value_learning_rate, c.lr_schedule, left))
        self.envs.critic.set_learning_rate(decayed(c.critic_learning_rate, c.lr_schedule, left))

    @torch.no_grad()
    def diagnostics(self) -> dict[str, float]:
        """KL to the pretrained sampler, weights that do not learn, the critic's slope and its view of unseen data."""
        assert self.newest is not None
        counted = self.policy.num_evaluations, self.reference.num_evaluations
        xs, critic, data = self.newest.xs, self.envs.critic, self.envs.dataset
        kl = self.policy(xs[:-1], self.rows).kl(self.reference(xs[:-1], self.rows)).mean(-1)  # (K,)
        self.policy.num_evaluations, self.reference.num_evaluations = counted  # looking is not training
        draws = torch.Generator(self.device).manual_seed(self.iteration)  # of their own: logging must not change a run
        size = min(max(xs.shape[1], HELD_OUT), len(data.held_out))  # a point drawn again and again says nothing new
        held_out, seen = (data.sample(size, draws, held_out=held) for held in (True, False))
        return {
            **{f"kl_to_pretrained/step_{k:04d}": value for k, value in enumerate(kl.tolist())},
            "train/kl_to_pretrained": float(kl.sum()),
            "train/weights_without_gradient": self._weights_without_gradient(),
            "critic/gap_held_out": critic.distance(held_out, self.newest.x0),
            "critic/overfit_z": mean_difference_z(critic(seen), critic(held_out)),
            "critic/lipschitz": critic.lipschitz(held_out),
            "time/network_evaluations": self.network_evaluations,
        }

    def _weights_without_gradient(self) -> int:
        # By Adam's memory: a step in which the clip ended every gain cuts nothing off.
        squares = [self.policy_optimizer.state.get(w, {}).get("exp_avg_sq") for w in self.policy.parameters()]
        return len(squares) - int(torch.stack([square.any() for square in squares if square is not None]).sum())

    @property
    def network_evaluations(self) -> int:
        """Evaluations of the denoising network in training so far, one per state; measurements are not counted."""
        return self.policy.num_evaluations + self.reference.num_evaluations

    @property
    def task(self) -> Task:
        """What the agent is trained on."""
        known = {f.name for f in fields(Task)}
        kwargs = {name: value for name, value in self.env_kwargs.items() if name in known}
        return Task(**kwargs, num_envs=self.num_envs, device=str(self.device))

    @property
    def dataset(self) -> Dataset:
        """The data of the task."""
        return self.envs.dataset

    @property
    def critic(self) -> Critic:
        """The reward, as it is now."""
        return self.envs.critic

    @property
    def iteration_timesteps(self) -> int:
        """Environment steps of an iteration: n_critic rollouts."""
        return self.config.n_critic * self.num_envs * self.envs.table.num_steps

    @property
    def sampler(self) -> DenoisingPolicy:
        """The averaged sampler."""
        return cast(DenoisingPolicy, self.average.module)

    def state_dict(self) -> dict[str, Any]:
        """Networks, average, optimizers, and the count of evaluations."""
        counts = {"evaluations": [self.policy.num_evaluations, self.reference.num_evaluations]}
        return {**{name: part.state_dict() for name, part in self._parts().items()}, **counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.policy.num_evaluations, self.reference.num_evaluations = state["evaluations"]

    def _parts(self) -> dict[str, Any]:
        return {
            "policy": self.policy,
            "average": self.average,
            "value": self.value,
            "policy_optimizer": self.policy_optimizer,
            "value_optimizer": self.value_optimizer,
        }
