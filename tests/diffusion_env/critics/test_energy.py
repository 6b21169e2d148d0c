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


class Table(torch.nn.Module):
    """One score for each of the points 0 ... m-1, whose first component is their number."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, x: Tensor) -> Tensor:
        return self.scores[x[..., 0].long()].unsqueeze(-1)


def best_scores(p: Tensor, q: Tensor, gamma: float) -> Tensor:
    """f at the maximum of sum q f - sum p f - gamma sum (q + p) f^2, found by gradient ascent."""
    f = torch.zeros_like(p, requires_grad=True)
    ascent = torch.optim.LBFGS([f], lr=1.0, max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        ascent.zero_grad()
        value = -penalised_distance(p, q, f, gamma)
        value.backward()
        return value

    ascent.step(loss)
    return f.detach()


def penalised_distance(p: Tensor, q: Tensor, f: Tensor, gamma: float) -> Tensor:
    return ((q - p) * f).sum() - gamma * ((q + p) * f.square()).sum()


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_the_reward_is_the_derivative_of_the_penalised_distance(gamma: float) -> None:
    """Samples p and data q on six points: a little mass is moved from one point to another."""
    p = torch.tensor([0.1, 0.3, 0.05, 0.25, 0.2, 0.1], dtype=torch.float64)
    q = torch.tensor([0.2, 0.1, 0.25, 0.15, 0.1, 0.2], dtype=torch.float64)
    critic = EnergyCritic((2,), gamma=gamma)
    critic.network = Table(best_scores(p, q, gamma).float())
    points = torch.stack([torch.arange(6.0), torch.zeros(6)], -1)
    reward, score = critic.reward(points), critic(points).detach()
    size = 1e-3
    move = torch.zeros(6, dtype=torch.float64)
    move[2], move[1] = size, -size  # from where samples are too many to where they are too few
    d = [penalised_distance(r, q, best_scores(r, q, gamma), gamma) for r in (p + move, p - move)]
    slope = float(d[0] - d[1]) / (2 * size)
    assert float(reward[2] - reward[1]) == pytest.approx(-slope, rel=1e-3)
    assert float(score[2] - score[1]) != pytest.approx(-slope, rel=0.02)  # negative control: f alone


def test_the_slope_penalty_is_the_mean_squared_slope_on_both_sides(gaussians: Callable[..., Any]) -> None:
    real, fake = gaussians(0, shift=SHIFT)
    plain, sloped = (EnergyCritic((2,), width=64, slope_penalty=weight) for weight in (0.0, 0.5))
    squares = []
    for x in (real, fake):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(plain(x).sum(), x)
        squares.append(slope.square().sum(-1).mean())
    first, second = plain.update(real, fake), sloped.update(real, fake)
    assert second["regulariser"] - first["regulariser"] == pytest.approx(0.5 * float(sum(squares)), rel=1e-4)
    for _ in range(200):
        plain.update(real, fake)
        sloped.update(real, fake)
    assert 0 < sloped.lipschitz(real) < 0.5 * plain.lipschitz(real)
