"""What stacking the networks and optimizers of agents takes, and which agents can be stacked.

Letters: S agents, which differ in their seed alone; B trajectories, n in the buffer, K steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from agents.core.ipm_agent import IPMAgent
from agents.core.rollout import Trajectories
from diffusion_env.critics.trained import TrainedCritic

DONE_HERE = (
    "build",
    "iterate",
    "behaviour",
    "unchanged",
    "rollout",
    "teach",
    "update_critic",
    "value_penalty",
    "update_value",
    "update_policy",
    "after_step",
    "parts",
)
"""Methods of `IPMAgent` that are done here for all seeds: a class that replaces one of them cannot be stacked."""
STACKABLE: dict[str, tuple[Any, ...]] = {
    "minibatch_size": (None,),
    "baseline": ("value", "stein", "group"),
    "step_weight": ("uniform",),
    "gradient_checkpointing": (False,),
    "compile": (False,),
}
"""Fields of a configuration, and the values that can be stacked. With any other one the algorithm draws, calls
autograd, looks at numbers or has code made by torch.compile inside the code that vmap runs, which it does not support.
"""


@runtime_checkable
class DrawsNoise(Protocol):
    """An algorithm whose `policy_loss` needs noise of its own, which it takes from this method."""

    def noise(self, batch: Trajectories) -> Tensor:
        """Standard normal (K, n, *shape), by the agent's own generator."""


class Networks(nn.Module):
    """Policy, V and critic of an agent, so that `functional_call` puts other weights into all of them for one call."""

    def __init__(self, agent: IPMAgent) -> None:
        super().__init__()
        self.policy, self.value, self.critic = agent.policy, agent.value, agent.critic

    def forward(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """``function(*arguments)``, which may use the networks."""
        return function(*arguments)


def walked(agent: IPMAgent, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
    """xs (K + 1, B, *shape) from the start ``x`` (B, *shape) with ``noise`` (K, B, *shape).

    Where steps are scored, their log_prob (K, B) too.

    The environment's step ends at the same x[k+1] up to rounding: its action is made from x[k+1].
    """
    xs, log_probs = [x], []
    for k, z in enumerate(noise):
        law = agent.behaviour(xs[-1], k)
        xs.append(law.at(z))
        if agent.needs_density:
            log_probs.append(law.log_prob(xs[-1]))
    return (torch.stack(xs), torch.stack(log_probs)) if log_probs else (torch.stack(xs),)


def dims_of(batch: Trajectories) -> Trajectories:
    """Where the dimension S is in stacked trajectories, in the form that vmap asks for."""
    return Trajectories(2, None if batch.log_prob is None else 2)  # type: ignore[arg-type]  # places, not tensors


def of_seed(batch: Trajectories, s: int) -> Trajectories:
    """Trajectories of the seed at place ``s``."""
    return Trajectories(batch.xs[:, :, s], None if batch.log_prob is None else batch.log_prob[:, :, s])


def critic_optimizer(agent: IPMAgent) -> torch.optim.Adam:
    """The one optimizer of the agent's critic, which `refuse_unsupported` has looked at."""
    return cast(TrainedCritic, agent.critic).optimizer


def evaluations(agent: IPMAgent) -> tuple[int, int]:
    """Network evaluations of policy and reference so far."""
    return agent.policy.num_evaluations, agent.reference.num_evaluations


@torch.no_grad()
def copy_into(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> None:
    """Overwrite each target (any shape) with the source of the same shape, in place."""
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


def stacked_adam(
    optimizers: Sequence[torch.optim.Optimizer], stacked: dict[nn.Parameter, nn.Parameter]
) -> torch.optim.Adam:
    """One Adam with the groups, settings and moments of S, on the weights ``stacked`` (S, *shape) for those of the
    first."""
    groups = [{**g, "params": [stacked[weight] for weight in g["params"]]} for g in optimizers[0].param_groups]
    adam = torch.optim.Adam(groups)
    for weights in zip(*[own_weights(optimizer) for optimizer in optimizers], strict=True):
        states = [optimizer.state.get(weight, {}) for optimizer, weight in zip(optimizers, weights, strict=True)]
        for name in states[0]:
            values = [state[name] for state in states]
            adam.state[stacked[weights[0]]][name] = values[0].clone() if name == "step" else torch.stack(values)
    return adam


def unstack_adam(adam: torch.optim.Adam, optimizer: torch.optim.Optimizer, s: int) -> None:
    """Give ``optimizer`` the step sizes and moments of the seed at place ``s``."""
    for stacked, weight in zip(own_weights(adam), own_weights(optimizer), strict=True):
        if stacked in adam.state:
            state = adam.state[stacked].items()
            optimizer.state[weight] = {name: (value if name == "step" else value[s]).clone() for name, value in state}


def own_weights(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Every weight that the optimizer moves, in the order of its groups."""
    return [weight for group in optimizer.param_groups for weight in group["params"]]


@contextmanager
def random_numbers_explained() -> Iterator[None]:
    """Turn vmap's refusal of random operations into a ValueError that says what an algorithm does instead."""
    try:
        yield
    except RuntimeError as error:
        if "randomness" not in str(error):
            raise
        raise ValueError(
            "This algorithm draws random numbers in a method that is run for many seeds at once, where each seed needs "
            "its own. Give its class a method noise(batch), which draws standard normal numbers (K, n, *shape) with "
            "self.generator, and take them from there in policy_loss, as Pathwise does; or train one seed at a time."
        ) from error


def refuse_unlike(agents: Sequence[IPMAgent]) -> None:
    """ValueError unless the agents differ in their seed alone, and each has a critic of its own."""
    if len({id(agent.critic) for agent in agents}) < len(agents):
        raise ValueError(
            "The agents share one critic, but each seed trains its own. Give the critic's name, "
            "env_kwargs=dict(critic='energy'), or a new object to each agent."
        )
    described = [description(agent) for agent in agents]
    for name, wanted in described[0].items():
        if other := [one[name] for one in described if one[name] != wanted]:
            raise ValueError(
                f"Agents that are trained together differ in their seed alone; received {name} = {wanted!r} and "
                f"{other[0]!r}. Make them by one call in a loop over the seeds, and train them equally long."
            )


def description(agent: IPMAgent) -> dict[str, Any]:
    """What agents that are stacked have in common."""
    names = ("config", "num_envs", "env_id", "device", "num_timesteps", "iteration")
    task = {name: value for name, value in agent.env_kwargs.items() if name != "critic"}
    critic = {name: value for name, value in agent.critic.config.items() if name != "seed"}
    classes = {"class": type(agent), "critic": type(agent.critic)}
    return {**classes, **{name: getattr(agent, name) for name in names}, "env_kwargs": task, "critic_kwargs": critic}


def refuse_unsupported(agent: IPMAgent) -> None:
    """ValueError, with what is supported, where the agent does something that cannot be done for stacked weights."""
    kind, critic = type(agent), agent.critic
    reasons = [f"it has its own {name}" for name in DONE_HERE if getattr(kind, name) is not getattr(IPMAgent, name)]
    for name, allowed in STACKABLE.items():
        if (value := getattr(agent.config, name, allowed[0])) not in allowed:
            reasons.append(f"{name} is {value!r}, not {' or '.join(map(repr, allowed))}")
    plain = [
        isinstance(critic, TrainedCritic) and getattr(type(critic), name) is getattr(TrainedCritic, name)
        for name in ("update", "project", "optimizers", "get_extra_state")
    ]
    if not all(plain) or critic.wants_value_penalty or not agent.critic_learns:
        reasons.append(f"its critic {critic.name!r} is not trained by its loss alone, as 'energy' is")
    if agent.ranks.size > 1:
        reasons.append(f"there are {agent.ranks.size} ranks")
    if reasons:
        raise ValueError(
            f"{kind.__name__} cannot be trained for many seeds at once: {'; '.join(reasons)}. Supported are "
            "SFTPG, DPOK, GRPO, Pathwise, DxDP, and algorithms that replace no more than policy_loss, advantages, "
            "value_target and start, with a critic that is trained by its loss alone, for example 'energy'. Train the "
            "others one seed after the other, or in a process for each."
        )
