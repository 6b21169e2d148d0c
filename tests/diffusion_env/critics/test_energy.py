"""The energy critic: its loss, its optimum, its Fourier features."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_env.critics import EnergyCritic

SHIFT = torch.tensor([2.0, 0.0])


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_energy_loss_and_its_optimum(gaussians: Callable[..., Any], gamma: float) -> None:
    critic = EnergyCritic((2,), gamma=gamma, width=64)
    real, fake = gaussians(0, shift=10 * SHIFT)
    f_real, f_fake = critic(real).detach(), critic(fake).detach()
    regulariser = gamma * (f_real.square().mean() + f_fake.square().mean())
    metrics = critic.update(real, fake)
    assert metrics["regulariser"] == pytest.approx(float(regulariser), rel=1e-4)
    loss = f_fake.mean() - f_real.mean() + regulariser
    assert metrics["critic_loss"] == pytest.approx(float(loss), rel=1e-4)
    for _ in range(300):
        critic.update(real, fake)
    # Disjoint supports: f = 1 / (2 gamma) on the data and minus that on the samples.
    assert critic.distance(real, fake) == pytest.approx(1 / gamma, rel=0.02)


def test_energy_without_its_penalty_is_unbounded(
    train_on_gaussians: Callable[..., Any], gaussians: Callable[..., Any]
) -> None:
    assert train_on_gaussians(EnergyCritic((2,), gamma=0.0, width=64), 300).distance(*gaussians(999)) > 10 / 0.3


def test_fourier_features_see_what_a_plain_network_does_not() -> None:
    """A few samples between two lines of data: seen by the energy critic, not by one without high frequencies."""
    generator = torch.Generator().manual_seed(0)

    def points(n: int, stray: float) -> Tensor:
        side = torch.rand(n, generator=generator).gt(0.5).float() * 0.6 - 0.3
        middle = torch.rand(n, generator=generator).lt(stray)
        across = torch.where(middle, 0.0, side) + 0.01 * torch.randn(n, generator=generator)
        return torch.stack([across, torch.randn(n, generator=generator)], -1)

    def seen(frequency: float) -> float:
        critic = EnergyCritic((2,), frequency=frequency, learning_rate=2e-3)
        for _ in range(600):
            critic.update(points(128, 0.0), points(128, 0.05))
        strays, data = points(500, 1.0), points(500, 0.0)
        return critic.distance(data, strays)

    assert seen(4.0) > 0.5
    assert seen(1e-3) < 0.2
