"""Walking a table: what it draws, and that the exact denoiser of a mixture brings the mixture back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.named import SAMPLERS, make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import ddpm, levels
from diffusion_env.samplers.walk import sample, walk
from tests.support import seeded

COSINE = make_schedule("cosine")


@pytest.fixture(scope="module")
def data():
    return load_dataset("gaussians8")


@pytest.fixture(scope="module")
def exact(data):
    means, std = data.mixture
    return MixtureDenoiser(means, std, COSINE)


def last(states):
    *_, x = states
    return x


def test_a_walk_yields_every_state_from_the_start(exact):
    table, start = make_table("ddpm", COSINE, 4), torch.randn(3, 2, generator=seeded())
    states = list(walk(table, exact, start, seeded(1)))
    assert len(states) == 5 and states[0] is start
    draws = seeded(1)
    for k in range(4):
        expected = table.law(k, states[k], exact(states[k], table.time[k]), 1).sample(draws)
        assert torch.equal(states[k + 1], expected)


def test_a_row_without_noise_draws_none(exact):
    draws, start = seeded(1), torch.randn(3, 2, generator=seeded())
    before = draws.get_state()
    for _ in walk(make_table("ddim", COSINE, 5), exact, start, draws):
        assert torch.equal(draws.get_state(), before)
    list(walk(ddpm(COSINE, [500]), exact, start, draws))  # the last row of the small variance
    assert torch.equal(draws.get_state(), before)
    list(walk(ddpm(COSINE, [500, 200]), exact, start, draws))
    once = seeded(1)
    torch.randn(3, 2, generator=once)
    assert torch.equal(draws.get_state(), once.get_state())


def test_samples_are_a_function_of_the_generator_and_keep_no_graph():
    net = EpsMLP((1, 8, 8), COSINE, width=16)
    table, before = make_table("ddpm", COSINE, 3), torch.get_rng_state()
    x = sample(table, net, 5, seeded())
    assert x.shape == (5, 1, 8, 8) and not x.requires_grad
    assert torch.equal(x, sample(table, net, 5, seeded()))
    assert not torch.equal(x, sample(table, net, 5, seeded(1)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 100, 1000])
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_every_sampler_at_any_number_of_steps_is_finite(exact, sampler, num_steps):
    x = sample(make_table(sampler, COSINE, num_steps), exact, 64, seeded())
    assert x.isfinite().all() and 0.1 < x.abs().max() < 6
    if sampler != "published_toy" and num_steps == 1000:
        assert nearest_mode(exact.means, x)[1].max() < 6 * exact.std


def nearest_mode(means, x):
    """Index of and distance to the nearest mean, both (N,)."""
    distance, index = torch.cdist(x, means).min(-1)
    return index, distance


def mixture_errors(x, means, std):
    """How far mean, covariance, the shares of the modes and the spread around them are off, each in its own unit."""
    index, distance = nearest_mode(means, x)
    shares = torch.bincount(index, minlength=len(means)) / len(x)
    covariance = std**2 * torch.eye(2) + means.T @ means / len(means)
    return (
        float(x.mean(0).norm()),
        float((x.T.cov() - covariance).norm()),
        float((shares * len(means) - 1).abs().max()),
        abs(float(distance.square().mean().sqrt()) / (std * math.sqrt(2)) - 1),
    )


# Four standard errors of 4,000 points: 4 sqrt(2 / N), the same for the covariance, 4 sqrt(7 / N), 4 / (2 sqrt(N)).
BOUNDS = np.array([0.09, 0.09, 0.17, 0.032])


def test_a_thousand_exact_steps_bring_the_mixture_back(data, exact):
    x = sample(ddpm(COSINE, levels(1000, 1000)), exact, 4_000, seeded())
    assert (np.array(mixture_errors(x, *data.mixture)) < BOUNDS).all()
    assert (np.array(mixture_errors(data.sample(4_000, seeded()), *data.mixture)) < BOUNDS).all()


def test_negative_controls_wrong_tables_miss_the_mixture(data, exact):
    right = ddpm(COSINE, levels(100, 1000))

    def errors(table):
        return np.array(mixture_errors(sample(table, exact, 4_000, seeded()), *data.mixture))

    late = replace(right, time=(right.time - 30).clamp(min=1))
    quiet = replace(right, std=0.8 * right.std)
    for wrong in (late, quiet, make_table("published_toy", COSINE, 10)):
        assert (errors(wrong) > 2 * BOUNDS).any()


@pytest.fixture(scope="module")
def prior_penalty(data, exact):
    """By how much SW2 to the data grows when a table starts at N(0, I) instead of the true law of x_T."""

    def penalty(table):
        x0, z = data.sample(8_000, seeded(1)), torch.randn(8_000, 2, generator=seeded(2))
        true_start = math.sqrt(table.start) * x0 + math.sqrt(1 - table.start) * z
        reference = data.sample(8_000, seeded(3), held_out=True)
        wrong, right = (
            sliced_wasserstein(last(walk(table, exact, start, seeded(4))), reference, seeded(5))
            for start in (z, true_start)
        )
        return wrong - right, right

    return penalty


def test_the_published_toy_table_starts_from_the_wrong_law(prior_penalty):
    penalty, right = prior_penalty(make_table("published_toy", COSINE, 10))
    assert penalty > 0.04 and right < 0.03


@pytest.mark.parametrize("num_steps", [1, 10])
@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "fastdpm", "fastdpm_step"])
def test_the_named_samplers_lose_nothing_by_their_start(prior_penalty, sampler, num_steps):
    assert abs(prior_penalty(make_table(sampler, COSINE, num_steps))[0]) < 0.005


def std_at_the_end(table, data_std, start_std):
    """Of data N(0, data_std^2) under its exact, linear denoiser: the std of x[K], in closed form."""
    variance, a = start_std**2, table.start
    for x_coef, eps_coef, std in zip(table.x_coef.double(), table.eps_coef.double(), table.std.double(), strict=True):
        gain = x_coef + eps_coef * math.sqrt(1 - a) / (a * data_std**2 + 1 - a)
        variance, a = float(gain**2 * variance + std**2), min(a * float(x_coef) ** 2, 1.0)
    return math.sqrt(variance)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("data_std", [0.7, 1.23])  # the two axes of the moons
def test_prior_mismatch_in_closed_form(sampler, data_std):
    table = make_table(sampler, COSINE, 10)
    true_start = math.sqrt(table.start * data_std**2 + 1 - table.start)
    mismatch = abs(std_at_the_end(table, data_std, 1.0) / std_at_the_end(table, data_std, true_start) - 1)
    assert mismatch > 0.1 if sampler == "published_toy" else mismatch < 5e-4


def test_fewer_exact_steps_are_worse_and_more_are_enough(data, exact):
    reference = data.sample(4_000, seeded(3), held_out=True)

    def distance(table):
        return sliced_wasserstein(sample(table, exact, 4_000, seeded()), reference, seeded(5))

    one, ten, hundred = (distance(make_table("ddim", COSINE, k)) for k in (1, 10, 100))
    assert hundred < 0.05 < ten < one
