"""The MMD critic against its closed form."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffusion_env.critics import (
    Critic,
    MMDCritic,
)

SHIFT = torch.tensor([2.0, 0.0])


def kernel_mean(squared: float, variance: float, h: float) -> float:
    """E exp(-|z|^2 / (2 h^2)) for z ~ N(m, variance I) in the plane, |m|^2 = squared."""
    return h**2 / (h**2 + variance) * math.exp(-squared / (2 * (h**2 + variance)))


@pytest.mark.parametrize("bandwidths", [(), (1.0, 0.0), (-1.0,), (float("nan"),), (float("inf"),)])
def test_mmd_bandwidths(check_paragraph: Callable[..., Any], bandwidths: tuple[float, ...]) -> None:
    with pytest.raises(ValueError) as error:
        MMDCritic((2,), bandwidths=bandwidths)
    check_paragraph(error, str(list(bandwidths)), "positive")


def test_mmd_references_of_another_width_do_not_load() -> None:
    narrow: Critic = MMDCritic((2,))
    narrow.update(torch.randn(4, 2), torch.randn(4, 2))
    with pytest.raises(RuntimeError, match="size mismatch"):
        MMDCritic((3,)).load_state_dict(narrow.state_dict())


@pytest.mark.parametrize("bandwidths", [(1.0,), (0.5, 2.0)])
def test_mmd_of_gaussians(gaussians: Callable[..., Any], bandwidths: tuple[float, ...]) -> None:
    critic = MMDCritic((2,), bandwidths=bandwidths, max_references=3000)
    real, fake = gaussians(0, 3000)
    assert critic.distance(real, fake) == 0.0
    metrics = critic.update(real, fake)
    means = [(kernel_mean(0, 2, h), kernel_mean(4, 2, h)) for h in bandwidths]
    exact = math.sqrt(sum(2 * within - 2 * between for within, between in means) / len(bandwidths))
    assert metrics["mmd"] == pytest.approx(exact, rel=0.02)
    assert critic.distance(real, fake) == pytest.approx(metrics["mmd"], rel=1e-4)
    for point in ([0.0, 0.0], [2.0, 1.0]):
        near = [kernel_mean((point[0] - 2) ** 2 + point[1] ** 2, 1, h) for h in bandwidths]
        far = [kernel_mean(point[0] ** 2 + point[1] ** 2, 1, h) for h in bandwidths]
        witness = (sum(near) - sum(far)) / len(bandwidths) / exact
        assert float(critic(torch.tensor(point))) == pytest.approx(witness, abs=0.04)


def test_mmd_of_one_gaussian_is_near_zero(gaussians: Callable[..., Any]) -> None:
    real, fake = gaussians(0, 3000, shift=0 * SHIFT)
    assert MMDCritic((2,), bandwidths=(1.0,), max_references=3000).update(real, fake)["mmd"] < 0.04
    equal = MMDCritic((2,))
    assert equal.update(real, real)["mmd"] < 1e-3
    assert equal(real).abs().max() < 1e-2


def test_mmd_bandwidths_follow_the_first_batches_and_stay(gaussians: Callable[..., Any]) -> None:
    critic = MMDCritic((2,))
    real, fake = gaussians(0)
    critic.update(100 * real, 100 * fake)
    median = torch.pdist(100 * torch.cat([real, fake])).median()
    assert torch.allclose(critic.bandwidths, median * torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0]))
    critic.update(real, fake)
    assert torch.allclose(critic.bandwidths[2], median)


def test_mmd_keeps_at_most_max_references(gaussians: Callable[..., Any]) -> None:
    critic = MMDCritic((2,), max_references=50)
    real, fake = gaussians(0)
    critic.update(real, fake[:20])
    assert torch.equal(critic.real, real[:50]) and torch.equal(critic.fake, fake[:20])
