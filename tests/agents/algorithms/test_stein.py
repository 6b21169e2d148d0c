"""The baseline V(x[k+1], k+1): what it leaves, its slope, rewards without a gradient. Its theorem is tested beside the
other gradients, in `test_policy_gradient_theorem`."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.algorithms import stein
from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.stein import later_advantages, slope_loss
from agents.core.advantages import advantages
from diffusion_env.samplers.law import GaussianStep
from tests.support import normal

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., PolicyGradientConfig]


@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_later_advantages_leave_the_terms_after_the_step(gae_lambda: float) -> None:
    value, score = normal(5, 4), normal(4, seed=1)
    following = torch.cat([value, score[None]])
    terms = following[1:] - following[:-1]
    expected = torch.stack(
        [sum((gae_lambda ** (j - k) * terms[j] for j in range(k + 1, 5)), torch.zeros(4)) for k in range(5)]
    )
    whole = advantages(value, score, gae_lambda)
    assert torch.allclose(later_advantages(whole, gae_lambda, exact_end=True), expected, atol=1e-6)
    kept = later_advantages(whole, gae_lambda, exact_end=False)
    assert torch.equal(kept[-1], whole[-1]) and torch.allclose(kept[:-1], expected[:-1], atol=1e-6)


def test_the_slope_loss_is_minus_the_mean_of_slope_times_step() -> None:
    mean, std = normal(3, 5, 2).requires_grad_(), torch.full((3, 1, 1), 0.5, requires_grad=True)
    law, slope = GaussianStep(mean, std), normal(3, 5, 2, seed=1)
    z = normal(3, 5, 2, seed=2)
    loss = slope_loss(law, (mean + std * z).detach(), slope)
    loss.backward()
    assert mean.grad is not None and torch.allclose(mean.grad, -slope / 15)
    assert std.grad is not None and torch.allclose(std.grad, -(slope * z).sum((1, 2), keepdim=True) / 15, atol=1e-6)
    weighted = slope_loss(law, (mean + std * z).detach(), slope, torch.tensor([[2.0], [0.0], [0.0]]))
    expected = -2 * (slope * (mean + std * z))[0].sum() / 15
    assert float(weighted.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_slopes_are_those_of_v_and_in_the_last_step_of_the_reward(
    make_agent: MakeAgent, small_config: SmallConfig
) -> None:
    agent = make_agent(small_config("sft_pg", baseline="stein"), num_steps=3, critic=lambda x: x[..., 0].sin())
    x = normal(3, 7, 2)
    found = stein.slopes(agent, x)
    assert torch.allclose(found[-1, :, 0], x[-1, :, 0].cos(), atol=1e-6) and not found[-1, :, 1].any()
    moved = x.clone()
    moved[:, :, 1] += 1e-2
    with torch.no_grad():
        change = agent.value(moved[:2], agent.steps[1:]) - agent.value(x[:2], agent.steps[1:])
    assert torch.allclose(found[:2, :, 1], change / 1e-2, atol=1e-2)


def test_slopes_are_those_of_autograd_to_the_bit(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent = make_agent(small_config("sft_pg", baseline="stein"), num_steps=3)
    x = normal(3, 64, 2).requires_grad_()
    plain, differentiable = (
        torch.autograd.grad(
            agent.value(x[:-1], agent.steps[1:]).sum() + agent.reward_of(x[-1]).sum(), x, create_graph=flag
        )
        for flag in (False, True)
    )
    assert torch.equal(stein.slopes(agent, x), plain[0])
    assert not torch.equal(differentiable[0], plain[0])  # negative control: the same up to rounding
    assert torch.allclose(differentiable[0], plain[0], atol=1e-6)


def numpy_reward(x: Tensor) -> Tensor:
    return torch.as_tensor(np.sin(x.detach().numpy()[..., 0]), dtype=x.dtype)


def test_a_reward_without_gradient_keeps_the_value_baseline_in_the_last_step(
    make_agent: MakeAgent, small_config: SmallConfig
) -> None:
    agent = make_agent(small_config("sft_pg", baseline="stein"), num_steps=2, critic=numpy_reward)
    assert not agent.has_slope
    batch = agent.learn(32, log_interval=None).newest
    advantage = agent.advantages(batch)
    with torch.no_grad():
        expected = numpy_reward(batch.x0) - agent.value(batch.xs[-2], agent.steps[-1])
    assert torch.allclose(advantage[-1], expected, atol=1e-6)
    assert not stein.slopes(agent, batch.xs[1:])[-1].any()
    before = agent.sample(9, seed=0)
    agent.learn(64, log_interval=None)
    assert not torch.equal(agent.sample(9, seed=0), before)
    exact = make_agent(small_config("sft_pg", baseline="stein"), num_steps=2).learn(32, log_interval=None)
    assert not exact.advantages(exact.newest)[-1].any()  # nothing is left where the critic has a slope


@pytest.mark.parametrize(
    "changes", [{"surrogate": "clip"}, {"advantage_normalization": "batch"}, {"minibatch_size": 32}]
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"baseline='stein' .*needs surrogate='score'.*received.*baseline='value'"):
        PolicyGradientConfig(baseline="stein", **changes)
