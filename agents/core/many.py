"""Many seeds in one process: the networks of several agents stacked, every iteration done for all of them at once.

Letters: S seeds; B trajectories per rollout, n in the buffer, K steps; f, V, theta, A as in `agents.core.ipm_agent`.

The agents are ordinary ones, each with its own random streams. What they draw is drawn by their own generators, one
agent after the other; what they compute is their own code, run for all by `torch.func.vmap` over the stacked weights.
The losses of the seeds are added up, and since no weight belongs to two seeds, each gradient is that of a run alone.
So the result is that of S separate runs, up to rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel

from agents.core import learning
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss, Metrics, value_loss
from agents.core.optimization import refuse_non_finite
from agents.core.ranks import ALONE
from agents.core.rollout import Trajectories
from agents.core.stacking import (
    DrawsNoise,
    Networks,
    copy_into,
    critic_optimizer,
    dims_of,
    evaluations,
    of_seed,
    random_numbers_explained,
    refuse_unlike,
    refuse_unsupported,
    stacked_adam,
    unstack_adam,
    walked,
)
from diffusion_env.critics.trained import TrainedCritic


class ManySeeds:
    """Trains several agents at once, which differ in their seed alone.

    Example::

        many = ManySeeds([SFTPG(num_envs=64, env_kwargs=dict(num_steps=5), seed=seed) for seed in range(8)])
        many.learn(total_timesteps=2_000_000)
        x0 = many.agents[3].sample(10_000)

    Between two calls of `learn` the agents are ordinary ones: each samples, is measured, saved and may go on alone.
    """

    def __init__(self, agents: Sequence[IPMAgent]) -> None:
        """``agents``: S of one class, configuration and task, with equally many steps done, each with its own critic.

        Raises ValueError where something is not supported, and says what is.
        """
        self.agents = list(agents)
        if not self.agents:
            raise ValueError("ManySeeds received no agent. Give agents that differ in their seed, at least one.")
        first = self.agents[0]
        refuse_unsupported(first)
        refuse_unlike(self.agents)
        self.config, self.n_critic, self.learning_rate = first.config, first.n_critic, first.learning_rate
        self.uses_value, self.critic = first.uses_value, cast(TrainedCritic, first.critic)
        self.ranks = ALONE
        self.later = None  # numbers are looked at after each step, on an accelerator too: an error names the seed
        self.newest: Trajectories | None = None  # (K + 1, B, S, *shape) and (K, B, S)
        self.metrics: dict[str, float | Tensor] = {}  # of the newest iteration, each (S,) or one number for all

    @property
    def seeds(self) -> list[int]:
        """The agents' seeds, S of them."""
        return [agent.seed for agent in self.agents]

    def learn(self, total_timesteps: int, reset_num_timesteps: bool = True) -> Self:
        """Train every agent for ``total_timesteps`` environment steps, as `IPMAgent.learn` does without callbacks.

        Raises FloatingPointError that names the seed whose numbers are not finite. All agents then keep the state of
        that moment, so that the others can be saved, or go on without it.
        """
        for agent in self.agents:
            learning.prepare(agent, total_timesteps, None, reset_num_timesteps)
        self.stack()
        try:
            while self.agents[0].num_timesteps < self.agents[0].total_timesteps:
                self.metrics = IPMAgent.iterate(cast(IPMAgent, self))  # which asks for nothing but what is below
                for agent in self.agents:
                    agent.iteration += 1
        finally:
            self.unstack()
        return self

    # --- stacked weights -----------------------------------------------------------------------------------------

    def stack(self) -> None:
        """Copy the agents' weights, moments and averages into tensors with a first dimension S."""
        networks = [Networks(agent) for agent in self.agents]
        self.networks = networks[0]
        weights, buffers = stack_module_state(cast(list[nn.Module], networks))
        self.weights = {name: nn.Parameter(weight) for name, weight in weights.items()}
        self.own_buffers = {name: buffer for name, buffer in buffers.items() if bool((buffer != buffer[0]).any())}
        stacked = {weight: self.weights[name] for name, weight in self.networks.named_parameters()}
        self.policy_optimizer = stacked_adam([agent.policy_optimizer for agent in self.agents], stacked)
        self.value_optimizer = stacked_adam([agent.value_optimizer for agent in self.agents], stacked)
        self.critic_optimizer = stacked_adam([critic_optimizer(agent) for agent in self.agents], stacked)
        self.policy_weights = nn.ParameterList(stacked[weight] for weight in self.agents[0].policy.parameters())
        self.average = AveragedModel(self.policy_weights, multi_avg_fn=self.agents[0].average.multi_avg_fn)
        averages = zip(*[agent.average.module.parameters() for agent in self.agents], strict=True)
        copy_into(self.average.module.parameters(), [torch.stack(each) for each in averages])
        self.average.n_averaged.copy_(self.agents[0].average.n_averaged)
        self.evaluations_before = evaluations(self.agents[0])

    def unstack(self) -> None:
        """Copy everything back, so that each agent is what a run of its own would have made it."""
        policy, reference = (a - b for a, b in zip(evaluations(self.agents[0]), self.evaluations_before, strict=True))
        own = [dict(Networks(agent).named_parameters()) for agent in self.agents]
        for s, agent in enumerate(self.agents):
            copy_into(own[s].values(), [self.weights[name][s] for name in own[s]])
            copy_into(agent.average.module.parameters(), [average[s] for average in self.average.module.parameters()])
            agent.average.n_averaged.copy_(self.average.n_averaged)
            unstack_adam(self.policy_optimizer, agent.policy_optimizer, s)
            unstack_adam(self.value_optimizer, agent.value_optimizer, s)
            unstack_adam(self.critic_optimizer, critic_optimizer(agent), s)
            if s > 0:
                agent.policy.num_evaluations += policy
                agent.reference.num_evaluations += reference
            if self.newest is not None:
                agent.newest = of_seed(self.newest, s)

    def each(self, function: Callable[..., Any], *arguments: Any, dims: Any = 0, out_dims: Any = 0) -> Any:
        """``function(*arguments)`` of the first agent's code, under the weights of every seed.

        ``dims`` says where the dimension S is in the arguments, ``out_dims`` where it is put in the result.
        """

        def one(weights: dict[str, Tensor], *arguments: Any) -> Any:
            return functional_call(self.networks, weights, (function, *arguments))

        in_dims = (0, *dims) if isinstance(dims, tuple) else (0, *[dims] * len(arguments))
        with random_numbers_explained():
            return vmap(one, in_dims, out_dims)({**self.weights, **self.own_buffers}, *arguments)

    # --- the joints that `IPMAgent.iterate` calls ----------------------------------------------------------------

    def set_learning_rates(self) -> None:
        """Each agent's step sizes of now, by its own schedule, and from the first agent those of all."""
        for agent in self.agents:
            agent.set_learning_rates()
        first = self.agents[0]
        own = (first.policy_optimizer, first.value_optimizer, critic_optimizer(first))
        for optimizer, single in zip(
            (self.policy_optimizer, self.value_optimizer, self.critic_optimizer), own, strict=True
        ):
            for group, of_one in zip(optimizer.param_groups, single.param_groups, strict=True):
                group["lr"] = of_one["lr"]

    def unchanged(self) -> AbstractContextManager[None]:
        """Nothing is kept from one rollout to the next: what is made inside a call of vmap is of no use outside it."""
        return nullcontext()

    @torch.no_grad()
    def rollout(self) -> Trajectories:
        """B trajectories of every seed, (K + 1, B, S, *shape), each from its agent's own start and noise."""
        first = self.agents[0]
        starts, noise = [], []
        for agent in self.agents:
            start, agent.next_start = agent.start(), None
            steps = range(agent.policy.table.num_steps)
            noise.append(
                torch.stack([torch.randn(start.shape, generator=agent.generator, device=agent.device) for _ in steps])
            )
            starts.append(start)

        def chain(x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
            return walked(first, x, noise)

        newest = self.each(chain, torch.stack(starts), torch.stack(noise), out_dims=2)
        for agent in self.agents:
            agent.next_start = agent.envs.skip_episode()
            agent.num_timesteps += first.num_envs * first.policy.table.num_steps
        return Trajectories(newest[0], newest[1] if first.needs_density else None)

    def teach(self, newest: Trajectories) -> tuple[dict[str, float], Metrics]:
        """As `IPMAgent.teach`: one step on every f, then one on every V."""
        return IPMAgent.teach(cast(IPMAgent, self), newest)

    def score(self, batch: Trajectories) -> Tensor:
        """As `IPMAgent.score`, (S, n)."""
        return cast(Tensor, self.each(self.agents[0].score, batch, dims=(dims_of(batch),)))

    def update_critic(self, newest: Trajectories) -> dict[str, Tensor]:
        """One step on every f, each on data of its agent's own environments; metrics (S,)."""
        real = torch.stack([agent.envs.data_batch(self.config.critic_data_batch) for agent in self.agents])
        both = torch.cat([real, newest.x0.movedim(1, 0)], dim=1)
        num_real = real.shape[1]
        terms: dict[str, Tensor] = self.each(lambda both: self.critic.loss_terms(both, num_real), both)
        norm = self.descend("critic", terms["critic_loss"], self.critic_optimizer)
        return {**{name: term.detach() for name, term in terms.items()}, "grad_norm": norm}

    def update_value(self, newest: Trajectories, score: Tensor) -> Metrics:
        """One step on every V from ``score`` f(x_0) (S, B), as `IPMAgent.update_value`; metrics (S,)."""
        agent = self.agents[0]

        def loss(newest: Trajectories, score: Tensor) -> Loss:
            return value_loss(agent.value(newest.xs[:-1], agent.steps), agent.value_target(newest, score))

        losses, metrics = self.each(loss, newest, score, dims=(dims_of(newest), 0))
        return {**metrics, "value_grad_norm": self.descend("value", losses, self.value_optimizer)}

    def advantages(self, batch: Trajectories) -> list[Tensor]:
        """What each agent's own `IPMAgent.advantages` gives: one tensor (S, K, n), or none where it gives None."""

        def found(batch: Trajectories) -> list[Tensor]:
            advantage = self.agents[0].advantages(batch)
            return [] if advantage is None else [advantage]

        return cast(list[Tensor], self.each(found, batch, dims=(dims_of(batch),)))

    def update_policy(self, batch: Trajectories, advantage: list[Tensor], first: bool) -> Metrics:
        """One step on every theta; ``advantage`` as `advantages` gave it, (S, K, n) or none; metrics (S,)."""
        template = copy.copy(self.agents[0])  # the same networks; only its method `noise` is replaced
        draws = [agent.noise(batch) for agent, batch in self.by_seed(batch) if isinstance(agent, DrawsNoise)]

        def loss(batch: Trajectories, advantage: list[Tensor], noise: list[Tensor]) -> Loss:
            if noise:
                template.noise = lambda batch: noise[0]  # type: ignore[attr-defined]  # of a DrawsNoise
            return template.policy_loss(batch, advantage[0] if advantage else None, first)

        noise = [torch.stack(draws)] if draws else []
        losses, metrics = self.each(loss, batch, advantage, noise, dims=(dims_of(batch), 0, 0))
        norm = self.descend("policy", losses, self.policy_optimizer, self.config.max_grad_norm)
        return {**metrics, "loss": losses.detach(), "grad_norm": norm}

    def after_step(self) -> None:
        """The averages of all seeds take their step in."""
        self.average.update_parameters(self.policy_weights)

    def by_seed(self, batch: Trajectories) -> Iterable[tuple[IPMAgent, Trajectories]]:
        """Each agent with its part of a stacked ``batch``."""
        return ((agent, of_seed(batch, s)) for s, agent in enumerate(self.agents))

    def descend(
        self, name: str, losses: Tensor, optimizer: torch.optim.Optimizer, max_grad_norm: float | None = None
    ) -> Tensor:
        """As `agents.core.optimization.descend` for each of the ``losses`` (S,); returns the gradients' norms (S,)."""
        optimizer.zero_grad()
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        losses.sum().backward(inputs=weights)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in gradients]).norm(dim=0)
        self.refuse_non_finite(**{f"{name}_loss": losses.detach(), f"{name}_grad_norm": norms})
        if max_grad_norm is not None:
            factor = (max_grad_norm / (norms + 1e-6)).clamp(max=1)  # as nn.utils.clip_grad_norm_
            for gradient in gradients:
                gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))
        optimizer.step()
        return norms

    def refuse_non_finite(self, **values: Tensor) -> None:
        """As `agents.core.optimization.refuse_non_finite`, of values (S,) each; the error says of which seed.

        Looks at the device once while all are finite.
        """
        if bool(torch.stack(list(values.values())).isfinite().all()):
            return
        singles = {
            f"{name} of seed {seed}": one
            for name, each in values.items()
            for seed, one in zip(self.seeds, each, strict=True)
        }
        try:
            refuse_non_finite(self.agents[0].iteration, **singles)
        except FloatingPointError as error:
            raise FloatingPointError(
                f"{error} The agents keep the state of this moment: save the others, or go on without that seed, "
                "ManySeeds([agent for agent in many.agents if agent.seed != ...])."
            ) from None
