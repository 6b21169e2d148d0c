"""What critics with a trained network share: one step, the penalty, the optimiser, scoring in pieces."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_env.critics import (
    BaselineCritic,
    Critic,
    EnergyCritic,
    SpectralNormCritic,
    WeightClippingCritic,
    make_critic,
)
from diffusion_env.critics.trained import PIECE

TRAINED = ["baseline", "energy", "gradient_penalty", "spectral_norm", "weight_clipping"]
NAMES = [*TRAINED, "mmd"]


@pytest.mark.parametrize("name", TRAINED)
def test_resume_without_the_optimiser_is_not_exact(
    batch: Callable[..., Any], update: Callable[..., Any], train: Callable[..., Any], name: str
) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    restored = copy.deepcopy(critic)
    restored.reset(torch.Generator().manual_seed(0))
    restored.load_state_dict(critic.state_dict() | {"_extra_state": restored.get_extra_state()})
    update(critic, *batch((2,)))
    update(restored, *batch((2,)))
    assert not torch.equal(critic(torch.ones(5, 2)), restored(torch.ones(5, 2)))


@pytest.mark.parametrize("name", TRAINED)
def test_weights_come_from_the_seed_alone(batch: Callable[..., Any], name: str) -> None:
    x = batch((2,))[0]
    global_state = torch.get_rng_state()
    first = make_critic(name, (2,), seed=1)
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.rand(3)
    assert torch.equal(first(x), make_critic(name, (2,), seed=1)(x))
    assert not torch.equal(first(x), make_critic(name, (2,), seed=2)(x))


@pytest.mark.parametrize("name", TRAINED)
def test_learning_rate_zero_stops_training(batch: Callable[..., Any], update: Callable[..., Any], name: str) -> None:
    critic = make_critic(name, (2,))
    before = [p.clone() for p in critic.parameters()]
    critic.set_learning_rate(0.0)
    update(critic, *batch((2,)))
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))
    critic.set_learning_rate(1e-3)
    update(critic, *batch((2,)))
    assert not all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_moving_to_the_device_takes_the_optimiser_along(
    batch: Callable[..., Any], update: Callable[..., Any], train: Callable[..., Any], name: str
) -> None:
    critic = train(make_critic(name, (2,)), 2, gap=1.0).to("cuda")
    real, fake = batch((2,))
    update(critic, real.cuda(), fake.cuda())
    assert critic(real.cuda()).is_cuda


def test_non_finite_penalty_is_named(check_paragraph: Callable[..., Any]) -> None:
    with pytest.raises(FloatingPointError) as error:
        EnergyCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2), lambda scores: scores.sum() / 0)
    check_paragraph(error, "penalty = ", "critic_loss = ")


def test_penalty_must_be_a_scalar(check_paragraph: Callable[..., Any]) -> None:
    with pytest.raises(ValueError) as error:
        EnergyCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2), lambda scores: scores)
    check_paragraph(error, "(3,)", "scalar")


@pytest.mark.parametrize("make", [EnergyCritic, BaselineCritic, SpectralNormCritic, WeightClippingCritic])
def test_penalty_reaches_the_critic_and_nothing_else(
    gaussians: Callable[..., Any], make: Callable[..., Critic]
) -> None:
    real, fake = gaussians(0)
    value = nn.Linear(2, 1)
    fake.requires_grad_()
    scale = torch.zeros((), requires_grad=True)

    def penalty(scores: Tensor) -> Tensor:
        return 100 * (value(fake).squeeze(-1) - scores).square().mean() + scale * scores.mean()

    with_penalty, without = make((2,)), make((2,))
    metrics = with_penalty.update(real, fake, penalty)
    control = without.update(real, fake, lambda scores: 0 * scores.mean())
    assert metrics["critic_loss"] == pytest.approx(control["critic_loss"] + metrics["penalty"], rel=1e-4)
    assert metrics["grad_norm"] > 2 * control["grad_norm"]
    assert fake.grad is None and scale.grad is None
    assert all(p.grad is None for p in value.parameters())


@pytest.mark.parametrize("n", [0, 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_pieces_give_the_scores_of_the_whole(n: int) -> None:
    critic, sizes = EnergyCritic((2, 3)), []
    critic.network.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    x = torch.randn(n, 2, 3, generator=torch.Generator().manual_seed(0))
    whole = critic(x)
    assert sizes == [n] and whole.requires_grad  # training takes a batch as it is
    with torch.no_grad():
        scores: Tensor = critic(x)
    assert sum(sizes[1:]) == n and max(sizes[1:]) <= PIECE
    assert scores.shape == (n,)
    torch.testing.assert_close(scores, whole.detach(), rtol=1e-5, atol=1e-6)


def test_other_batch_shapes() -> None:
    critic, x = EnergyCritic((2,)), torch.randn(2, PIECE + 1, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(critic(x), torch.stack([critic(x[0]), critic(x[1])]), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(critic(x[0, 0]), critic(x[0])[0], rtol=1e-5, atol=1e-6)
