"""Losses as pure functions: their values, where gradients go, and what they report."""

import pytest
import torch

from agents.core.losses import (
    explained_variance,
    mean_difference_z,
    ratio_error,
    value_loss,
    velocity_cost,
)
from tests.support import normal


def test_value_loss_reaches_the_value_and_never_the_score() -> None:
    value, score = normal(3, 5).requires_grad_(), normal(5, seed=1).requires_grad_()
    loss, metrics = value_loss(value, score.expand(3, -1))
    loss.backward()
    assert loss.detach() == (value.detach() - score.detach()).square().mean()
    assert value.grad is not None and torch.allclose(value.grad, 2 * (value.detach() - score.detach()) / 15)
    assert score.grad is None
    assert not any(metric.requires_grad for metric in metrics.values())


def test_explained_variance_is_one_for_the_score_and_zero_for_a_constant() -> None:
    score = normal(1000)
    target = score.expand(3, -1)
    assert explained_variance(target, target) == 1
    assert explained_variance(torch.full((3, 1000), 0.7), target) == pytest.approx(0, abs=1e-5)
    assert explained_variance(normal(3, 1000, seed=1), target) < -0.8  # an unrelated value of the score's variance
    assert explained_variance(torch.zeros(1, 1), torch.ones(1, 1)).isfinite()  # a single score has no variance


def test_ratio_error_is_zero_for_the_same_log_prob_and_measures_a_change() -> None:
    log_prob = normal(3, 5)
    assert ratio_error(log_prob, log_prob) == 0
    moved = log_prob.clone()
    moved[1, 2] += torch.log(torch.tensor(1.25))
    assert ratio_error(moved, log_prob) == pytest.approx(0.25, rel=1e-5)
    assert ratio_error(log_prob, moved) == pytest.approx(0.2, rel=1e-5)


def test_value_loss_takes_a_target_of_its_own_for_every_step() -> None:
    value, target = normal(3, 5), normal(3, 5, seed=1)
    assert value_loss(value, target)[0] == (value - target).square().mean()
    assert float(value_loss(value, value)[1]["explained_variance"]) == 1


def test_mean_difference_in_standard_errors() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 4.0])  # variances 1 and 8
    assert mean_difference_z(a, a) == 0
    assert mean_difference_z(a, b) == pytest.approx((2.0 - 2.0) / (1 / 3 + 8 / 2) ** 0.5)
    assert mean_difference_z(a + 1, b) == pytest.approx(1 / (1 / 3 + 8 / 2) ** 0.5)
    assert mean_difference_z(b, a + 1) == pytest.approx(-mean_difference_z(a + 1, b))
    assert torch.tensor(mean_difference_z(torch.ones(3), torch.zeros(3))).isfinite()  # nothing varies


def test_mean_difference_has_unit_spread_where_nothing_differs() -> None:
    found = torch.tensor([mean_difference_z(normal(50, seed=i), normal(80, seed=1000 + i)) for i in range(300)])
    assert float(found.std()) == pytest.approx(1.0, abs=0.15)
    assert abs(float(found.mean())) < 0.25


@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)])
def test_velocity_cost_is_half_the_squared_way(shape: tuple[int, ...]) -> None:
    x, x_next = normal(4, 5, *shape), normal(4, 5, *shape, seed=1)
    cost = velocity_cost(x, x_next, len(shape))
    assert cost.shape == (4, 5)
    assert float(cost[1, 2]) == pytest.approx(0.5 * float(torch.linalg.vector_norm(x_next[1, 2] - x[1, 2])) ** 2)
    assert torch.equal(velocity_cost(x, x, len(shape)), torch.zeros(4, 5))


def test_nothing_is_broadcast() -> None:
    value, score = normal(3, 5), normal(5, seed=1)
    with pytest.raises(ValueError, match=r"Received value \(3, 5\), target \(5,\)"):
        value_loss(value, score)
    with pytest.raises(ValueError, match="allowed are value \\(K, n\\), target \\(K, n\\)"):
        explained_variance(value, score)
    with pytest.raises(ValueError, match="The shape of old_log_prob does not fit"):
        ratio_error(value, score)
    with pytest.raises(ValueError, match="The shape of x_next does not fit"):
        velocity_cost(value, score, 1)
    with pytest.raises(ValueError, match="The shape of a does not fit"):
        mean_difference_z(value, score)
