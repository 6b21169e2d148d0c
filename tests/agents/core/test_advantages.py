"""Advantages against their definitions."""

import math

import pytest
import torch
from torch import Tensor

from agents.core.advantages import (
    advantages,
    effective_sample_size,
    equal_step_weights,
    group_advantages,
    normalised,
    regression_weights,
)
from diffusion_env.samplers.law import GaussianStep
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_lambda_one_is_the_papers_advantage(num_steps: int) -> None:
    value, score = normal(num_steps, 4), normal(4, seed=1)
    assert torch.allclose(advantages(value, score), score - value, atol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.9])
def test_generalised_advantages_are_the_sum_of_their_definition(gae_lambda: float) -> None:
    value, score = normal(5, 4), normal(4, seed=1)
    following = torch.cat([value, score[None]])  # V(x[K]) = f(x_0)
    expected = torch.stack(
        [
            sum((gae_lambda**j * (following[k + j + 1] - following[k + j]) for j in range(5 - k)), torch.zeros(4))
            for k in range(5)
        ]
    )
    assert torch.allclose(advantages(value, score, gae_lambda), expected, atol=1e-6)
    assert not torch.allclose(advantages(value, score, 1.0), expected, atol=0.1)  # lambda matters


# --- groups ----------------------------------------------------------------------------------------------------------


def test_a_group_is_compared_with_itself_alone() -> None:
    score = torch.tensor([1.0, 3.0, 10.0, 30.0])
    assert group_advantages(score, 2).tolist() == [-1.0, 1.0, -10.0, 10.0]
    assert group_advantages(score, 4).tolist() == [-10.0, -8.0, -1.0, 19.0]


@pytest.mark.parametrize("group_size", [2, 8])
def test_the_group_baseline_shrinks_the_gradient_by_one_part_in_g(group_size: int) -> None:
    """x ~ N(m, 1), f(x) = x + 5: d E[f] / dm = 1 = E[f * (x - m)]; the mean of the group holds f itself."""
    n = 100_000 * group_size
    noise = normal(n)  # x - m, the score of m
    found = float((group_advantages(noise + 5, group_size) * noise).mean())
    exact = (group_size - 1) / group_size
    assert found == pytest.approx(exact, abs=5 * 2 / math.sqrt(n))
    assert abs(found - 1) > 0.1  # negative control: it does not claim to be unbiased


def test_groups_cancel_what_their_start_explains() -> None:
    start, noise = normal(100).repeat_interleave(4), normal(400, seed=1)
    assert float(group_advantages(100 * start + noise, 4).std()) < 1.1
    assert float(group_advantages((100 * start + noise).roll(2), 4).std()) > 10  # negative control: split groups


# --- normalisation and weights ---------------------------------------------------------------------------------------


def test_normalised_has_mean_zero_and_std_one() -> None:
    advantage = 3 + 2 * normal(4, 60)
    whole = normalised(advantage, 0.05)
    assert whole.shape == (4, 60)
    assert float(whole.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whole.std(correction=0)) == pytest.approx(1, rel=1e-5)
    scores = torch.tensor([1.0, 3.0, 10.0, 30.0]).expand(3, 4)  # one score a trajectory, for all K = 3 steps
    assert torch.allclose(normalised(scores, 0.05, 2), torch.tensor([-1.0, 1.0, -1.0, 1.0]).expand(3, 4))


@pytest.mark.parametrize("group_size", [None, 4])
def test_the_floor_keeps_small_advantages_small(group_size: int | None) -> None:
    advantage = 1e-3 * normal(3, 8)
    centred = advantage - (
        advantage.mean() if group_size is None else advantage.view(3, 2, 4).mean(-1).repeat_interleave(4, 1)
    )
    assert torch.allclose(normalised(advantage, 0.05, group_size), centred / 0.05, atol=1e-7)
    assert float(normalised(advantage, 1e-6, group_size).std()) > 0.9  # negative control: without it noise counts fully
    assert normalised(torch.ones(3, 8), 0.05, group_size).abs().max() == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1e9])
def test_regression_weights_are_exponential_with_mean_one(temperature: float) -> None:
    advantage = 3 * normal(4, 5)
    weight = regression_weights(advantage, temperature)
    assert weight.shape == (4, 5) and float(weight.mean()) == pytest.approx(1, rel=1e-5)
    gap = weight.double().log() - weight.double().log()[0, 0]
    assert torch.allclose(gap, (advantage.double() - advantage[0, 0]) / temperature, rtol=1e-3, atol=1e-4)
    assert torch.allclose(regression_weights(advantage + 1e3, 1.0), regression_weights(advantage, 1.0), rtol=1e-2)


def eps_gradient_scale(sampler: str, weighted: bool) -> Tensor:
    """Root mean square over draws of d(w log p) / d eps for each step, (K,), by autograd."""
    table = make_table(sampler, make_schedule("cosine", 100), 6)
    weight = equal_step_weights(table) if weighted else torch.ones(6)
    scale = []
    for k in range(6):
        x, eps = normal(4_000, 2, seed=k), normal(4_000, 2, seed=k + 10).requires_grad_()
        law: GaussianStep = table.law(k, x, eps, 1)
        x_next = law.sample(torch.Generator().manual_seed(k)).detach()
        (gradient,) = torch.autograd.grad((weight[k] * law.log_prob(x_next)).sum(), eps)
        scale.append(gradient.square().mean().sqrt())
    return torch.stack(scale)


@pytest.mark.parametrize("sampler", ["ddpm", "fastdpm", "published_toy"])
def test_equal_step_weights_equalise_the_gradient_that_reaches_eps(sampler: str) -> None:
    table = make_table(sampler, make_schedule("cosine", 100), 6)
    weight = equal_step_weights(table)
    assert weight.shape == (6,) and float(weight.mean()) == pytest.approx(1, rel=1e-5)
    scale, plain = eps_gradient_scale(sampler, True), eps_gradient_scale(sampler, False)
    assert float(scale.max() / scale.min()) < 1.05
    assert float(plain.max() / plain.min()) > 1.1  # negative control


def test_effective_sample_size_at_its_ends() -> None:
    assert float(effective_sample_size(torch.full((2, 8), 3.0))) == pytest.approx(1)
    assert float(effective_sample_size(torch.eye(1, 16))) == pytest.approx(1 / 16)
    half = torch.cat([torch.ones(8), torch.zeros(8)])
    assert float(effective_sample_size(half)) == pytest.approx(0.5)
    assert float(effective_sample_size(100 * half)) == pytest.approx(0.5)  # the scale does not matter
