"""Every update reaches its own network alone."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.presets import AGENTS
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Metrics
from agents.core.policy import DenoisingPolicy
from agents.core.rollout import Trajectories
from diffusion_env.critics import BaselineCritic, make_critic
from tests.support import policy_step

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)


def started(agent: IPMAgent) -> IPMAgent:
    """The agent after one iteration: callbacks and logger are in place."""
    return agent.learn(1)


def modules(agent: IPMAgent) -> dict[str, nn.Module]:
    assert isinstance(agent.pretrained, nn.Module)
    return {
        "policy": agent.policy,
        "value": agent.value,
        "critic": agent.critic,
        "pretrained": agent.pretrained,
    }


def moved_by(agent: IPMAgent, update: Callable[[], Any]) -> tuple[set[str], set[str]]:
    """Which networks an update moved, and which received a gradient."""
    before = {name: [w.detach().clone() for w in module.parameters()] for name, module in modules(agent).items()}
    for module in modules(agent).values():
        module.zero_grad()
    update()
    moved = {
        name
        for name, module in modules(agent).items()
        if any(not torch.equal(w, old) for w, old in zip(module.parameters(), before[name], strict=True))
    }
    reached = {name for name, module in modules(agent).items() if any(w.grad is not None for w in module.parameters())}
    return moved, reached


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("critic", ["energy", "baseline"])
def test_every_update_reaches_its_own_network_alone(
    make_agent: MakeAgent, small_config: SmallConfig, algo: str, critic: str
) -> None:
    config = small_config(algo, std="learned", kl_coef=0.01)
    agent = started(make_agent(config, critic=make_critic(critic, (2,)), algo=algo))
    newest = agent.rollout()
    assert moved_by(agent, lambda: agent.update_value(newest, agent.score(newest))) == ({"value"}, {"value"})
    assert moved_by(agent, lambda: agent.update_critic(newest)) == ({"critic"}, {"critic"})
    assert moved_by(agent, lambda: policy_step(agent, newest)) == ({"policy"}, {"policy"})
    assert moved_by(agent, lambda: agent.rollout()) == (set(), set())


def test_the_gradient_penalty_moves_the_critic_alone(make_agent: MakeAgent) -> None:
    agent = started(make_agent(critic=make_critic("gradient_penalty", (2,))))
    newest = agent.rollout()
    assert moved_by(agent, lambda: agent.update_critic(newest)) == ({"critic"}, {"critic"})


def test_looking_changes_neither_weights_nor_gradients(make_agent: MakeAgent) -> None:
    agent = started(make_agent())

    def state() -> list[Tensor | None]:
        weights = [w for module in modules(agent).values() for w in module.parameters()]
        return [*(w.detach().clone() for w in weights), *(w.grad for w in weights)]

    before = state()
    agent.diagnostics()
    assert all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(before, state(), strict=True)
    )


def unreached(module: nn.Module) -> list[str]:
    return [name for name, w in module.named_parameters() if w.grad is None or not bool(w.grad.any())]


@pytest.mark.parametrize("algo", AGENTS)
def test_every_weight_of_the_sampler_is_reached(make_agent: MakeAgent, small_config: SmallConfig, algo: str) -> None:
    agent = started(make_agent(small_config(algo, std="learned"), algo=algo))
    policy_step(agent, agent.rollout())
    assert unreached(agent.policy) == []
    ratio = agent.policy.log_std_ratio
    assert ratio is not None and ratio.grad is not None and bool(ratio.grad.all())  # of every step


def test_every_weight_of_value_and_critic_is_reached(make_agent: MakeAgent) -> None:
    agent = started(make_agent())
    newest = agent.rollout()
    agent.update_critic(newest), agent.update_value(newest, agent.score(newest))
    assert unreached(agent.value) == unreached(agent.critic) == []


def test_negative_control_a_policy_that_is_not_a_copy_moves_the_pretrained_network(make_agent: MakeAgent) -> None:
    agent = started(make_agent())
    assert isinstance(agent.pretrained, nn.Module)
    agent.policy = DenoisingPolicy(agent.pretrained.requires_grad_(), agent.policy.table)
    agent.policy_optimizer = torch.optim.Adam(agent.policy.parameters())
    assert moved_by(agent, lambda: policy_step(agent, agent.rollout()))[0] == {"policy", "pretrained"}


def test_a_critic_that_is_not_trained_stays(make_agent: MakeAgent) -> None:
    frozen, learning = make_agent(train_critic=False), make_agent()
    assert "critic" not in moved_by(frozen, lambda: frozen.learn(48))[0]
    assert "critic" in moved_by(learning, lambda: learning.learn(48))[0]


def test_the_value_error_reaches_the_baseline_critic_through_its_penalty(make_agent: MakeAgent) -> None:
    agent = started(make_agent(critic=BaselineCritic((2,), width=16)))
    penalty = agent.value_penalty(agent.rollout())
    assert penalty is not None
    scores = torch.linspace(-1, 1, 8).requires_grad_()
    penalty(scores).backward()
    assert scores.grad is not None and float(scores.grad.abs().min()) > 0
    assert make_agent().value_penalty(agent.rollout()) is None  # the other critics have regularisers of their own


@pytest.mark.parametrize(("critic", "waits"), [("baseline", False), ("energy", True)])
def test_v_regresses_the_newest_critic_unless_they_descend_together(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, critic: str, waits: bool
) -> None:
    agent = started(make_agent(critic=critic))
    newest, taken = agent.rollout(), list[Tensor]()
    update = agent.update_value

    def spy(batch: Trajectories, score: Tensor) -> Metrics:
        taken.append(score)
        metrics: Metrics = update(batch, score)
        return metrics

    monkeypatch.setattr(agent, "update_value", spy)
    before = agent.score(newest)
    agent.teach(newest)
    after = agent.score(newest)
    assert not torch.equal(before, after)
    assert torch.equal(taken[0], after if waits else before)


@pytest.mark.parametrize("weight", [0.0, 0.5, 10.0])
def test_value_loss_weight_scales_the_penalty(make_agent: MakeAgent, weight: float) -> None:
    agent = started(make_agent(replace(SMALL, value_loss_weight=weight), critic=BaselineCritic((2,), width=16)))
    newest, scores = agent.rollout(), torch.linspace(-1, 1, 8)
    penalty = agent.value_penalty(newest)
    assert penalty is not None
    with torch.no_grad():
        expected = weight * (agent.value(newest.xs[:-1], agent.steps) - scores).square().mean()
    assert float(penalty(scores)) == pytest.approx(float(expected), rel=1e-6)
