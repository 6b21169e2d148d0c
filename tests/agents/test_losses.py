"""Losses as pure functions: values, where gradients go, and generalised advantages."""

import pytest
import torch
from torch import Tensor

from agents.advantages import advantages
from agents.losses import explained_variance, ratio_error, score_function_loss, value_loss


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128,)])
def test_score_function_loss_is_minus_the_mean_of_a_log_p(shape: tuple[int, ...]) -> None:
    log_prob, advantage = random(*shape), random(*shape, seed=1)
    loss, metrics = score_function_loss(log_prob, advantage)
    assert loss == pytest.approx(-float((log_prob * advantage).sum()) / log_prob.numel(), rel=1e-5)
    assert metrics["policy_gradient_loss"] == loss
    assert float(metrics["advantage_std"]) == pytest.approx(float(advantage.numpy().std()), abs=1e-6)
    assert score_function_loss(log_prob, -advantage)[0] == -loss


def test_policy_loss_reaches_log_prob_and_never_the_advantage() -> None:
    log_prob, advantage = random(3, 5).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    loss, metrics = score_function_loss(log_prob, advantage)
    loss.backward()
    assert log_prob.grad is not None and torch.allclose(log_prob.grad, -advantage.detach() / 15)
    assert advantage.grad is None
    assert not any(value.requires_grad for value in metrics.values())


def test_negative_control_an_attached_advantage_would_receive_a_gradient() -> None:
    log_prob, advantage = random(3, 5).requires_grad_(), random(3, 5, seed=1).requires_grad_()
    (-(advantage * log_prob).mean()).backward()
    assert advantage.grad is not None and float(advantage.grad.abs().max()) > 0


def test_value_loss_reaches_the_value_and_never_the_score() -> None:
    value, score = random(3, 5).requires_grad_(), random(5, seed=1).requires_grad_()
    loss, metrics = value_loss(value, score)
    loss.backward()
    assert loss.detach() == (value.detach() - score.detach()).square().mean()
    assert value.grad is not None and torch.allclose(value.grad, 2 * (value.detach() - score.detach()) / 15)
    assert score.grad is None
    assert not any(metric.requires_grad for metric in metrics.values())


def test_explained_variance_is_one_for_the_score_and_zero_for_a_constant() -> None:
    score = random(1000)
    assert explained_variance(score.expand(3, -1), score) == 1
    assert explained_variance(torch.full((3, 1000), 0.7), score) == pytest.approx(0, abs=1e-5)
    assert explained_variance(random(3, 1000, seed=1), score) < -0.8  # an unrelated value of the score's variance
    assert explained_variance(torch.zeros(1, 1), torch.ones(1)).isfinite()  # a single score has no variance


def test_ratio_error_is_zero_for_the_same_log_prob_and_measures_a_change() -> None:
    log_prob = random(3, 5)
    assert ratio_error(log_prob, log_prob) == 0
    moved = log_prob.clone()
    moved[1, 2] += torch.log(torch.tensor(1.25))
    assert ratio_error(moved, log_prob) == pytest.approx(0.25, rel=1e-5)
    assert ratio_error(log_prob, moved) == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("num_steps", [1, 2, 7])
def test_lambda_one_is_the_papers_advantage(num_steps: int) -> None:
    value, score = random(num_steps, 4), random(4, seed=1)
    assert torch.allclose(advantages(value, score), score - value, atol=1e-6)


@pytest.mark.parametrize("gae_lambda", [0.0, 0.3, 0.9])
def test_generalised_advantages_are_the_sum_of_their_definition(gae_lambda: float) -> None:
    value, score = random(5, 4), random(4, seed=1)
    following = torch.cat([value, score[None]])  # V(x[K]) = f(x_0)
    expected = torch.stack(
        [
            sum((gae_lambda**j * (following[k + j + 1] - following[k + j]) for j in range(5 - k)), torch.zeros(4))
            for k in range(5)
        ]
    )
    assert torch.allclose(advantages(value, score, gae_lambda), expected, atol=1e-6)
    assert not torch.allclose(advantages(value, score, 1.0), expected, atol=0.1)  # lambda matters
