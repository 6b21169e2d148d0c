"""The exact denoiser against the score of its density, on every kind of path."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal

COSINE = make_schedule("cosine")


def noised_density(means: Tensor, std: float, alpha: float, sigma: float) -> MixtureSameFamily:
    """The exact law of x_t = alpha x_0 + sigma eps for an equal mixture of N(means[m], std^2 I)."""
    scale = torch.full_like(means, math.hypot(alpha * std, sigma))
    components = Independent(Normal(alpha * means, scale), means.ndim - 1)
    return MixtureSameFamily(Categorical(logits=torch.zeros(len(means), dtype=means.dtype)), components)


@pytest.fixture(scope="module")
def mixture() -> tuple[Tensor, float]:
    mixture = load_dataset("gaussians8").mixture
    assert mixture is not None
    return mixture[0].double(), mixture[1]


def score(density: MixtureSameFamily, x: Tensor) -> Tensor:
    x = x.requires_grad_()
    return torch.autograd.grad(density.log_prob(x).sum(), x)[0]


@pytest.mark.parametrize("level", [1, 50, 500, 979])
@pytest.mark.parametrize("path", ["cosine", "linear", "karras", "rectified_flow"])
def test_the_exact_denoiser_is_the_score_of_the_noised_mixture(
    mixture: tuple[Tensor, float], path: str, level: int
) -> None:
    schedule = make_schedule(path)
    alpha, sigma, scale = (float(column[level]) for column in (schedule.alpha, schedule.sigma, schedule.scale))
    means, std = mixture
    density, denoiser = noised_density(means, std, alpha, sigma), MixtureDenoiser(means, std, schedule).double()
    x = 1.5 * normal(64, 2).double()  # the table's coordinates
    eps = denoiser(x, torch.tensor(float(level)).double())
    expected = -sigma * score(density, scale * x)
    torch.testing.assert_close(eps, expected, rtol=1e-4, atol=1e-5)
    other = denoiser(x, torch.tensor(300.0).double())
    assert not torch.allclose(other, expected, rtol=1e-2, atol=1e-3)  # the tolerance tells levels apart


def test_the_exact_denoiser_of_an_image_mixture() -> None:
    means = normal(3, 1, 4, 4).double()
    denoiser = MixtureDenoiser(means, 0.3, COSINE).double()
    x = normal(5, 1, 4, 4, seed=1).double()
    eps = denoiser(x, torch.tensor(400.0).double())
    sigma = float(COSINE.sigma[400])
    expected = -sigma * score(noised_density(means, 0.3, float(COSINE.alpha[400]), sigma), x)
    torch.testing.assert_close(eps, expected, rtol=1e-4, atol=1e-5)


def test_exact_eps_at_one_point_mass_recovers_the_noise() -> None:
    x0, eps = normal(1, 2), normal(20, 2, seed=1)
    a = COSINE.alpha_bar[300]
    x = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
    torch.testing.assert_close(MixtureDenoiser(x0, 0.0, COSINE)(x, torch.tensor(300.0)), eps, rtol=1e-4, atol=1e-4)


def test_time_is_shared_by_step_or_by_sample() -> None:
    denoiser = MixtureDenoiser(normal(3, 2), 0.2, COSINE)
    x, time = normal(4, 6, 2), torch.tensor([[979.0], [500.5], [20.25], [1.0]])
    rows = denoiser(x, time)  # (K, 1) against (K, B)
    torch.testing.assert_close(rows, denoiser(x, time.expand(4, 6)), rtol=1e-5, atol=1e-5)
    for k in range(4):
        torch.testing.assert_close(rows[k, 2], denoiser(x[k, 2], time[k, 0]), rtol=1e-5, atol=1e-5)
