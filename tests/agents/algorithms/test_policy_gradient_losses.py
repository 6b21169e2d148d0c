"""The losses on theta as pure functions: their values, where gradients go, and what they report."""

import pytest
import torch
from torch import Tensor

from agents.algorithms.policy_gradient import clipped_loss, score_function_loss
from diffusion_env.samplers.law import GaussianStep
from tests.support import normal


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (128,)])
def test_score_function_loss_is_minus_the_mean_of_a_log_p(shape: tuple[int, ...]) -> None:
    log_prob, advantage = normal(*shape), normal(*shape, seed=1)
    loss, metrics = score_function_loss(log_prob, advantage)
    assert loss == pytest.approx(-float((log_prob * advantage).sum()) / log_prob.numel(), rel=1e-5)
    assert metrics["policy_gradient_loss"] == loss
    assert float(metrics["advantage_std"]) == pytest.approx(float(advantage.numpy().std()), abs=1e-6)
    assert score_function_loss(log_prob, -advantage)[0] == -loss


def test_policy_loss_reaches_log_prob_and_never_the_advantage() -> None:
    log_prob, advantage = normal(3, 5).requires_grad_(), normal(3, 5, seed=1).requires_grad_()
    loss, metrics = score_function_loss(log_prob, advantage)
    loss.backward()
    assert log_prob.grad is not None and torch.allclose(log_prob.grad, -advantage.detach() / 15)
    assert advantage.grad is None
    assert not any(value.requires_grad for value in metrics.values())


def test_negative_control_an_attached_advantage_would_receive_a_gradient() -> None:
    log_prob, advantage = normal(3, 5).requires_grad_(), normal(3, 5, seed=1).requires_grad_()
    (-(advantage * log_prob).mean()).backward()
    assert advantage.grad is not None and float(advantage.grad.abs().max()) > 0


# --- the clipped ratio -----------------------------------------------------------------------------------------------


def test_at_ratio_one_the_clipped_gradient_is_the_score_function_s() -> None:
    old, advantage = normal(3, 5), normal(3, 5, seed=1)
    gradients = []
    for loss in (lambda p: clipped_loss(p, old, advantage, 0.2), lambda p: score_function_loss(p, advantage)):
        log_prob = old.clone().requires_grad_()
        loss(log_prob)[0].backward()
        assert log_prob.grad is not None
        gradients.append(log_prob.grad)
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6)
    assert not torch.allclose(gradients[0], gradients[1] / 3)  # negative control: a sum over other dimensions


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "flows"),
    [
        (1.1, 2.0, -2.2, True),  # within the range
        (1.5, 2.0, -2.4, False),  # gained enough
        (0.5, 2.0, -1.0, True),  # wrongly unlikely: brought back from however far
        (0.5, -2.0, 1.6, False),  # avoided enough
        (1.5, -2.0, 3.0, True),  # wrongly likely: brought back
    ],
)
def test_the_clip_ends_the_gain_and_never_the_way_back(
    ratio: float, advantage: float, loss: float, flows: bool
) -> None:
    log_prob = torch.tensor([ratio]).log().requires_grad_()
    found, _ = clipped_loss(log_prob, torch.zeros(1), torch.tensor([advantage]), 0.2)
    found.backward()
    assert float(found.detach()) == pytest.approx(loss)
    assert log_prob.grad is not None
    assert float(log_prob.grad) == pytest.approx(-ratio * advantage if flows else 0.0)


def test_the_clipped_loss_reports_on_the_ratio() -> None:
    ratio = torch.tensor([1.0, 1.1, 1.5, 0.5])
    old, advantage = normal(4), normal(4, seed=1).requires_grad_()
    _, metrics = clipped_loss((ratio.log() + old).requires_grad_(), old.requires_grad_(), advantage, 0.2)
    assert float(metrics["clip_fraction"]) == 0.5
    assert float(metrics["approx_kl"]) == pytest.approx(float((ratio - 1 - ratio.log()).mean()), abs=1e-6)
    kish = float(ratio.sum() ** 2 / (4 * ratio.square().sum()))
    assert float(metrics["effective_sample_size"]) == pytest.approx(kish, rel=1e-5)
    assert float(metrics["advantage_std"]) == pytest.approx(float(advantage.detach().numpy().std()), rel=1e-5)
    assert not any(value.requires_grad for value in metrics.values())


def test_only_the_new_log_prob_receives_a_gradient() -> None:
    log_prob, old, advantage = (normal(4, seed=seed).requires_grad_() for seed in range(3))
    clipped_loss(log_prob, old, advantage, 10.0)[0].backward()
    assert log_prob.grad is not None and bool(log_prob.grad.any())
    assert old.grad is None and advantage.grad is None


def test_the_clip_means_the_same_in_more_dimensions() -> None:
    """Coordinates that both policies treat alike change no ratio; averaged over four they would halve each gap."""
    x, old_mean, new_mean = (0.3 * normal(64, 2, seed=seed) for seed in range(3))
    idle, std, advantage = normal(64, 2, seed=3), torch.tensor([0.3]), normal(64, seed=4)

    def loss(*parts: Tensor) -> tuple[float, float, float]:
        events, old, new = parts
        now, then = (GaussianStep(mean, std).log_prob(events) for mean in (new, old))
        found, metrics = clipped_loss(now, then, advantage, 0.2)
        return float(found), float(metrics["clip_fraction"]), float(metrics["effective_sample_size"])

    plane = loss(x, old_mean, new_mean)
    wide = loss(*(torch.cat([part, idle], -1) for part in (x, old_mean, new_mean)))
    assert wide == pytest.approx(plane, rel=1e-4)
    now, then = (GaussianStep(mean, std).log_prob(x) / 2 for mean in (new_mean, old_mean))
    assert float(clipped_loss(now, then, advantage, 0.2)[0]) != pytest.approx(plane[0], rel=0.05)  # negative control


def test_nothing_is_broadcast() -> None:
    log_prob, advantage = normal(3, 5), normal(5, seed=1)
    with pytest.raises(ValueError, match=r"Received log_prob \(3, 5\), advantage \(5,\)"):
        score_function_loss(log_prob, advantage)
    with pytest.raises(ValueError, match="The shape of old_log_prob does not fit"):
        clipped_loss(log_prob, advantage, log_prob, 0.2)
    with pytest.raises(ValueError, match="The shape of advantage does not fit"):
        clipped_loss(log_prob, log_prob, advantage, 0.2)
