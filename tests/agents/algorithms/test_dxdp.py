"""DxDP: the one-step value gradient by hand, its velocity cost-to-go, and pathwise as its special case."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from agents.core.config import AgentConfig
from agents.core.losses import Loss
from tests.support import wave

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]


def loss_with(agent: Any, batch: Any, seed: int) -> Loss:
    agent.generator.manual_seed(seed)
    loss: Loss = agent.policy_loss(batch, agent.advantages(batch), True)
    return loss


def gradient(agent: Any, loss: Tensor) -> Tensor:
    weights = list(agent.policy.parameters())
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])


@pytest.mark.parametrize("num_steps", [1, 3])
def test_the_cost_to_go_is_the_sum_from_a_step_on(
    make_agent: MakeAgent, small_config: SmallConfig, num_steps: int
) -> None:
    agent = make_agent(small_config("dxdp", velocity_coef=0.7), num_steps, algo="dxdp", critic=wave).learn(1)
    newest = agent.rollout()
    score = wave(newest.x0)
    steps = [(newest.xs[k + 1] - newest.xs[k]).square().sum(-1) / 2 for k in range(num_steps)]
    expected = torch.stack([score - 0.7 * torch.stack(steps[k:]).sum(0) for k in range(num_steps)])
    assert torch.allclose(agent.value_target(newest, score), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(expected[-1], score - 0.7 * steps[-1])  # the last step pays for itself alone


def test_without_velocity_cost_v_regresses_the_score(make_agent: MakeAgent) -> None:
    agent = make_agent(algo="dxdp", critic=wave).learn(1)
    newest = agent.rollout()
    assert torch.equal(agent.value_target(newest, wave(newest.x0)), wave(newest.x0).expand(3, 8))


@pytest.mark.parametrize("learn_std", ["fixed", "learned"])
def test_at_one_step_the_gradient_is_the_pathwise_one(
    make_agent: MakeAgent, small_config: SmallConfig, learn_std: str
) -> None:
    agents = [make_agent(small_config(algo, std=learn_std), 1, algo=algo, critic=wave) for algo in ("dxdp", "pathwise")]
    batch = agents[0].learn(1).newest
    agents[1].policy.load_state_dict(agents[0].policy.state_dict())
    found, expected = (gradient(agent, loss_with(agent, batch, 5)[0]) for agent in agents)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
    other = gradient(agents[1], loss_with(agents[1], batch, 6)[0])
    assert not torch.allclose(found, other, rtol=1e-2)  # negative control: other noise


def test_at_more_steps_it_is_not(make_agent: MakeAgent) -> None:
    agents = [make_agent(num_steps=2, algo=algo, critic=wave) for algo in ("dxdp", "pathwise")]
    batch = agents[0].learn(1).newest
    agents[1].policy.load_state_dict(agents[0].policy.state_dict())
    found, expected = (gradient(agent, loss_with(agent, batch, 5)[0]) for agent in agents)
    assert not torch.allclose(found, expected, rtol=0.1)


@pytest.mark.parametrize("options", [{}, {"entropy_coef": 0.2}, {"velocity_coef": 0.7}, {"kl_coef": 0.4}])
def test_the_loss_is_the_value_of_one_fresh_step(
    make_agent: MakeAgent, small_config: SmallConfig, options: dict[str, float]
) -> None:
    agent = make_agent(small_config("dxdp", std="learned", **options), algo="dxdp", critic=wave).learn(1)
    batch, table = agent.rollout(), agent.envs.table
    loss, metrics = loss_with(agent, batch, 5)
    z = torch.randn((3, 8, 2), generator=torch.Generator().manual_seed(5))
    std, total = table.std * agent.policy.log_std_ratio.exp(), torch.zeros(())
    for k in range(3):
        x = batch.xs[k]

        def law(net: Any, std: Tensor, x: Tensor = x, k: int = k) -> Independent:
            mean = table.x_coef[k] * x + table.eps_coef[k] * net(x, table.time[k])
            return Independent(Normal(mean, std[k]), 1)

        own = law(agent.policy.net, std)
        x_next = own.mean + std[k] * z[k]
        value = wave(x_next) if k == 2 else agent.value(x_next, torch.tensor(k + 1))
        velocity = (x_next - x).square().sum(-1) / 2
        kl = torch.distributions.kl_divergence(own, law(agent.pretrained, table.std))
        gain = value + options.get("entropy_coef", 0) * own.entropy() - options.get("velocity_coef", 0) * velocity
        total = total - (gain - options.get("kl_coef", 0) * kl).mean() / 3
    assert float(loss.detach()) == pytest.approx(float(total.detach()), rel=1e-3)
    found, expected = gradient(agent, loss), gradient(agent, total)
    assert torch.allclose(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))
    assert not any(value.requires_grad for value in metrics.values())


def test_entropy_widens_a_learned_std(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    def widened(entropy_coef: float) -> float:
        rates = {"learning_rate": 1e-4, "n_generator": 5, "lr_schedule": "constant"}
        config = small_config("dxdp", std="learned", entropy_coef=entropy_coef, **rates)
        agent = make_agent(config, algo="dxdp", critic=lambda x: 0 * x[..., 0]).learn(1)
        return float(agent.policy.log_std_ratio.detach().mean())

    assert widened(1.0) > widened(0.0) + 0.02  # V's own slope moves the std a little either way
