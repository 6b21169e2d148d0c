"""The three Wasserstein critics: what bounds the slope, and what happens without it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffusion_env.critics import (
    Critic,
    EnergyCritic,
    GradientPenaltyCritic,
    SpectralNormCritic,
    WeightClippingCritic,
    make_critic,
)


def largest_weight(critic: Critic) -> float:
    return max(float(weight.detach().abs().max()) for weight in critic.parameters())


def test_spectral_norm_needs_an_even_width(check_paragraph: Callable[..., Any]) -> None:
    with pytest.raises(ValueError) as error:
        SpectralNormCritic((2,), width=33)
    check_paragraph(error, "33", "even")


def test_wasserstein_critics_measure_w1(train_on_gaussians: Callable[..., Any], gaussians: Callable[..., Any]) -> None:
    real, fake = gaussians(999, 2000)
    for critic in (SpectralNormCritic((2,)), GradientPenaltyCritic((2,))):
        assert train_on_gaussians(critic, 120).distance(real, fake) == pytest.approx(2.0, abs=0.25), critic.name


def test_spectral_norm_bounds_the_slope(train_on_gaussians: Callable[..., Any]) -> None:
    points = 3 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    critic, control = SpectralNormCritic((2,)), EnergyCritic((2,), gamma=0.0)
    for steps in (1, 20, 40):
        assert train_on_gaussians(critic, steps).lipschitz(points) <= 1.01
    assert train_on_gaussians(control, 40).lipschitz(points) > 1.5


def test_gradient_penalty_bounds_the_slope_softly(
    train_on_gaussians: Callable[..., Any], gaussians: Callable[..., Any]
) -> None:
    points = torch.cat(gaussians(999, 1000))
    penalised = train_on_gaussians(GradientPenaltyCritic((2,)), 100).lipschitz(points)
    control = train_on_gaussians(GradientPenaltyCritic((2,), gradient_weight=0.0), 100).lipschitz(points)
    assert penalised < 1.6
    assert control > 5 * penalised


def test_gradient_penalty_is_one_sided(gaussians: Callable[..., Any]) -> None:
    critic = GradientPenaltyCritic((2,))
    real, fake = gaussians(0)
    for weight in critic.network.parameters():
        weight.data *= 0.1
    assert critic.lipschitz(real) < 0.5
    assert critic.update(real, fake)["regulariser"] == 0.0
    for weight in critic.network.parameters():
        weight.data *= 20.0
    slope = critic.lipschitz(torch.cat([real, fake]))
    assert slope > 1.5
    assert 0 < critic.update(real, fake)["regulariser"] <= 10 * (2 * slope) ** 2


def test_weight_clipping_clips_every_weight(train_on_gaussians: Callable[..., Any]) -> None:
    critic = WeightClippingCritic((2,), clip=0.02)
    assert largest_weight(critic) == pytest.approx(0.02)
    assert largest_weight(train_on_gaussians(critic, 5)) == pytest.approx(0.02)
    assert largest_weight(train_on_gaussians(EnergyCritic((2,)), 5)) > 0.05


def test_weight_clipping_default_slope_is_of_order_one(
    train_on_gaussians: Callable[..., Any], gaussians: Callable[..., Any]
) -> None:
    assert 0.3 < train_on_gaussians(WeightClippingCritic((2,)), 150).lipschitz(gaussians(999)[0]) < 3.0


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_spectral_norm_bounds_the_slope_on_images(batch: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """By gradients at points and by pairs of points; the same body without a bound is steeper."""
    keywords = {"width": 64, "learning_rate": 2e-3}
    critic = make_critic("spectral_norm", shape, kwargs=keywords)
    control = make_critic("energy", shape, kwargs={**keywords, "gamma": 0.0})
    x, y = batch(shape, 99, 400, 400, 0.0)
    for seed in range(30):
        for one in (critic, control):
            one.update(*batch(shape, seed, 64, 64, 0.5))
        if seed < 6 or seed == 29:
            assert critic.lipschitz(x) <= 1.01
            for near in (x + 0.01 * y, y):
                with torch.no_grad():
                    slopes = (critic(x) - critic(near)).abs() / (x - near).flatten(1).norm(dim=1)
                assert float(slopes.max()) <= 1.01
    assert critic.lipschitz(x) > 0.5  # MaxMin loses no slope
    assert control.lipschitz(x) > 2.0


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16)])
def test_gradient_penalty_bounds_the_slope_softly_on_images(batch: Callable[..., Any], shape: tuple[int, ...]) -> None:
    """The penalty is differentiated twice through the convolutions."""
    found = []
    for weight in (10.0, 0.0):
        keywords = {"width": 32, "gradient_weight": weight, "learning_rate": 3e-3}
        critic = make_critic("gradient_penalty", shape, kwargs=keywords)
        for seed in range(60):
            critic.update(*batch(shape, seed, 64, 64, 0.7))
        found.append(critic.lipschitz(batch(shape, 99, 200)[0]))
    assert found[0] < 4 and found[1] > 10 * found[0]
