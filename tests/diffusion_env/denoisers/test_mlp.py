"""The multi-layer perceptron as a denoiser: its times, its outputs, its weights."""

from __future__ import annotations

import pytest
import torch

from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.denoiser import PathAt, unit_columns
from diffusion_env.samplers.predictions import PREDICTIONS, to_epsilon
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal, small_network

COSINE = make_schedule("cosine")


@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)])
def test_levels_picked_by_step_are_the_levels_of_each_sample(shape: tuple[int, ...]) -> None:
    net, x, k = small_network(shape), normal(7, *shape), torch.tensor([0, 2, 1, 1, 0, 2, 2])
    times = torch.tensor([900.0, 40.0, 3.5])
    torch.testing.assert_close(net.at_steps(x, times, k), net(x, times[k]))
    assert not torch.allclose(net.at_steps(x, times, k.flip(0)), net(x, times[k]), atol=1e-3)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_time_is_shared_by_step_or_by_sample(shape: tuple[int, ...]) -> None:
    denoiser = small_network(shape)
    x, time = normal(4, 6, *shape), torch.tensor([[979.0], [500.5], [20.25], [1.0]])
    rows = denoiser(x, time)  # (K, 1) against (K, B)
    assert rows.shape == x.shape
    torch.testing.assert_close(rows, denoiser(x, time.expand(4, 6)), rtol=1e-5, atol=1e-5)
    for k in range(4):
        torch.testing.assert_close(rows[k], denoiser(x[k], time[k, 0]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(rows[k, 2], denoiser(x[k, 2], time[k, 0]), rtol=1e-5, atol=1e-5)


def test_fractional_times_lie_between_levels_and_stay_within_them() -> None:
    denoiser, x = small_network(), normal(50, 2)
    low, middle, high = (denoiser(x, torch.tensor(time)) for time in (400.0, 400.5, 401.0))
    torch.testing.assert_close(middle, (low + high) / 2, rtol=0, atol=1e-4)
    assert (high - low).abs().max() > 1e-3
    for inside, outside in ((1.0, 0.2), (1000.0, 1500.0)):
        assert torch.equal(denoiser(x, torch.tensor(inside)), denoiser(x, torch.tensor(outside)))


def test_the_network_answers_x_itself_at_pure_noise() -> None:
    x = normal(50, 2)
    torch.testing.assert_close(small_network()(x, torch.tensor(1000.0)), x, rtol=0, atol=1e-3)
    assert (small_network()(x, torch.tensor(500.0)) - x).abs().max() > 0.1


@pytest.mark.parametrize("output", PREDICTIONS)
@pytest.mark.parametrize("path", ["cosine", "karras", "rectified_flow"])
def test_eps_is_what_the_output_says(path: str, output: str) -> None:
    schedule = make_schedule(path)
    nets = [EpsMLP((2,), schedule, 16, 2, output=name) for name in (output, "epsilon")]
    x, time = normal(50, 2), torch.linspace(100, 900, 50)
    eps, raw = (net(x, time) for net in nets)  # the same weights: raw is what the layers put out
    alpha, sigma = (c.unsqueeze(-1) for c in unit_columns(PathAt(schedule).log_snr(time)))
    torch.testing.assert_close(eps, to_epsilon(output, raw, x, alpha, sigma))
    assert output == "epsilon" or (eps - raw).abs().max() > 0.1


def test_an_unknown_output_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown prediction 'noise'"):
        EpsMLP((2,), COSINE, output="noise")


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = small_network(), small_network(), small_network(seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
        assert not torch.equal(weight, other.state_dict()[name])
