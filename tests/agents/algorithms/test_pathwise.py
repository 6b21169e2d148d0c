"""Pathwise: its gradient by hand in double precision, where it ends, and what checkpointing keeps."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.dxdp import DxDP
from agents.algorithms.pathwise import Pathwise
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.losses import Loss
from tests.support import wave

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
SEED = 5


def make(make_agent: MakeAgent, config: AgentConfig, num_steps: int = 4) -> tuple[Any, Any]:
    agent = make_agent(config, num_steps, algo="pathwise", critic=wave).learn(1)
    return agent, agent.rollout()


def loss_of(agent: Any, batch: Any) -> Loss:
    agent.generator.manual_seed(SEED)
    loss: Loss = agent.policy_loss(batch, None, True)
    return loss


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(module.parameters()))]).double()


def chain_by_hand(agent: Any, start: Tensor, backprop_steps: int) -> tuple[Tensor, nn.Module]:
    """- mean f(x[K]) and the network it is differentiated by, in double precision; cut before the last steps."""
    table, net = agent.envs.table, copy.deepcopy(agent.policy.net).double()
    generator, x = torch.Generator().manual_seed(SEED), start.double()
    for k in range(table.num_steps):
        if k == table.num_steps - backprop_steps:
            x = x.detach()
        x_coef, eps_coef, std = (float(c[k]) for c in (table.x_coef, table.eps_coef, table.std))
        z = torch.randn(start.shape, generator=generator).double()
        x = x_coef * x + eps_coef * net(x, table.time[k].double()) + std * z
        if k < table.num_steps - backprop_steps:
            x = x.detach()
    return -wave(x).mean(), net


@pytest.mark.parametrize("backprop_steps", [None, 1, 2, 4, 9])
def test_the_gradient_is_the_chain_s(
    make_agent: MakeAgent, small_config: SmallConfig, backprop_steps: int | None
) -> None:
    agent, batch = make(make_agent, small_config("pathwise", backprop_steps=backprop_steps))
    loss, metrics = loss_of(agent, batch)
    exact, net = chain_by_hand(agent, batch.xs[0], min(backprop_steps or 4, 4))
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-4)
    assert float(metrics["pathwise_loss"]) == float(loss.detach())
    found, expected = gradients(loss, agent.policy.net), gradients(exact, net)
    scale = float(expected.norm())
    assert float((found - expected).norm()) < 1e-3 * scale
    other = gradients(*chain_by_hand(agent, batch.xs[0], 3))
    assert float((found - other).norm()) > 1e-2 * scale  # negative control: cut elsewhere


@pytest.mark.parametrize("backprop_steps", [1, 2, 4])
def test_it_reaches_the_std_of_the_last_steps_alone(
    make_agent: MakeAgent, small_config: SmallConfig, backprop_steps: int
) -> None:
    agent, batch = make(make_agent, small_config("pathwise", std="learned", backprop_steps=backprop_steps))
    (reached,) = torch.autograd.grad(loss_of(agent, batch)[0], agent.policy.log_std_ratio)
    assert reached.ne(0).tolist() == [False] * (4 - backprop_steps) + [True] * backprop_steps


def test_a_finite_difference_of_the_learned_std(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent, batch = make(make_agent, small_config("pathwise", std="learned"))
    (exact,) = torch.autograd.grad(loss_of(agent, batch)[0], agent.policy.log_std_ratio)
    for k in range(4):
        losses = []
        for step in (0.02, -0.02):
            with torch.no_grad():
                agent.policy.log_std_ratio[k] += step
                losses.append(float(loss_of(agent, batch)[0]))
                agent.policy.log_std_ratio[k] -= step
        assert (losses[0] - losses[1]) / 0.04 == pytest.approx(float(exact[k]), rel=0.05, abs=2e-4)


def saved_numbers(agent: Any, batch: Any) -> int:
    """How many numbers the graph of the loss holds on to."""
    sizes: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss_of(agent, batch)
    return sum(sizes)


@pytest.mark.parametrize("backprop_steps", [None, 2])
def test_checkpointing_changes_the_memory_and_not_the_gradient(
    make_agent: MakeAgent, small_config: SmallConfig, backprop_steps: int | None
) -> None:
    found, kept = [], []
    for checkpointing in (False, True):
        options = {"std": "learned", "gradient_checkpointing": checkpointing, "backprop_steps": backprop_steps}
        agent, batch = make(make_agent, small_config("pathwise", **options), num_steps=8)
        kept.append(saved_numbers(agent, batch))
        found.append(gradients(loss_of(agent, batch)[0], agent.policy))
    assert torch.equal(*found) and bool(found[0].any())
    assert kept[1] < kept[0] / 3


def test_a_checkpointed_run_is_the_same_run(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    def trained(checkpointing: bool) -> Tensor:
        config = small_config("pathwise", gradient_checkpointing=checkpointing)
        samples: Tensor = make_agent(config, algo="pathwise").learn(3 * 48).sample(9, seed=0)
        return samples

    assert torch.equal(trained(True), trained(False))


def test_the_kl_penalty_is_of_the_states_visited(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent, batch = make(make_agent, small_config("pathwise", kl_coef=0.5))
    loss, metrics = loss_of(agent, batch)
    agent.generator.manual_seed(SEED)
    with torch.no_grad():
        states = agent.chain(batch.xs[0], agent.noise(batch))
        laws = [(agent.policy(x, k), agent.reference(x, k)) for k, x in enumerate(states[:-1])]
        kl = torch.stack([own.kl(pretrained) for own, pretrained in laws]).mean()
    assert float(kl) > 0
    assert float(metrics["kl_penalty"]) == pytest.approx(float(kl), rel=1e-3)
    assert float(loss.detach()) == pytest.approx(float(-wave(states[-1].detach()).mean() + 0.5 * kl), rel=1e-4)


@pytest.mark.parametrize("agent", [Pathwise, DxDP])
def test_a_reward_without_a_gradient_is_refused_when_the_agent_is_made(
    agent: type[IPMAgent], small_kwargs: dict[str, object]
) -> None:
    rewards = (lambda x: (x > 0).float().sum(-1), lambda x: x.detach().sum(-1))
    for reward in rewards:
        keywords = {**small_kwargs, "critic": reward, "train_critic": False}
        with pytest.raises(ValueError, match=r"follows the gradient of the reward, and autograd finds none"):
            agent(num_envs=4, env_kwargs=keywords, seed=0)
    agent(num_envs=4, env_kwargs={**small_kwargs, "critic": lambda x: -x.square().sum(-1), "train_critic": False})
