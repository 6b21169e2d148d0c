"""Pretraining against the exact denoiser of its data, its draws, and how it stops."""

import math
from dataclasses import replace

import pytest
import torch

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.loading import DENOISERS
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.pretraining import PretrainConfig, denoising_loss, diffuse, pretrain
from diffusion_env.samplers.predictions import PREDICTIONS, target
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal

MEANS, STD = torch.tensor([[1.2, 0.0], [-0.6, 1.0], [-0.6, -1.0]]), 0.2
SHORT = PretrainConfig(num_updates=5, batch_size=32, width=16, depth=2)
LONG = PretrainConfig(num_updates=700, batch_size=256, width=64, depth=2, ema_decay=0.98)


def points(n, seed):
    modes = torch.randint(3, (n,), generator=torch.Generator().manual_seed(seed))
    return MEANS[modes] + STD * normal(n, 2, seed=seed)


@pytest.fixture(scope="module")
def world():
    """Three Gaussians: the least loss any denoiser can have is known."""
    return Dataset("world", points(50_000, 0), points(5_000, 1), center=torch.zeros(2), scale=1.0)


def held_out_loss(denoiser, num_draws=40_000, output="v_prediction"):
    alpha_bar = torch.tensor(denoiser.schedule.alpha_bar, dtype=torch.float32)
    time = torch.randint(1, 1001, (num_draws,), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x0, eps = points(num_draws, 3), normal(num_draws, 2, seed=4)
        return float(denoising_loss(denoiser, x0, time.float(), eps, alpha_bar[time], output))


def test_training_approaches_the_least_possible_loss(world):
    least = held_out_loss(MixtureDenoiser(MEANS, STD, make_schedule("cosine")))
    untrained = held_out_loss(EpsMLP((2,), make_schedule("cosine"), 64, 2))
    trained = held_out_loss(pretrain(world, LONG))
    assert 0 < trained - least < 0.05 * (untrained - least)
    barely = held_out_loss(pretrain(world, replace(LONG, num_updates=20)))
    assert barely - least > 0.2 * (untrained - least)  # negative control


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_the_loss_is_the_squared_error_of_v_per_component(shape):
    net, x0, eps = EpsMLP(shape, make_schedule("cosine"), 16), normal(6, *shape), normal(6, *shape, seed=1)
    time = torch.tensor([1.0, 20.0, 300.0, 500.0, 700.0, 900.0])
    a = torch.tensor(net.schedule.alpha_bar, dtype=torch.float32)[time.long()]
    signal, noise = (c.sqrt().reshape(-1, *[1] * len(shape)) for c in (a, 1 - a))
    x = signal * x0 + noise * eps
    torch.testing.assert_close(diffuse(x0, eps, signal**2), x, rtol=1e-4, atol=1e-5)
    v, v_net = signal * eps - noise * x0, (net(x, time) - noise * x) / signal
    expected = (v - v_net).square().mean()
    torch.testing.assert_close(denoising_loss(net, x0, time, eps, a), expected, rtol=1e-3, atol=0)
    assert (net(x, time) - eps).square().mean() < 0.9 * expected  # the weighting counts


# A network trained on a path usually predicts this; few of the sizes and updates above are enough to tell.
@pytest.mark.parametrize(
    ("path", "prediction"), [("cosine", "epsilon"), ("karras", "v_prediction"), ("rectified_flow", "flow")]
)
def test_any_path_and_prediction_trains(world, path, prediction):
    config = replace(LONG, schedule=path, prediction=prediction, num_updates=400)
    net = pretrain(world, config)
    assert (net.schedule.name, net.output) == (path, prediction)
    least, trained, untrained = (
        held_out_loss(denoiser, output=prediction)
        for denoiser in (
            MixtureDenoiser(MEANS, STD, net.schedule),
            net,
            pretrain(world, replace(config, num_updates=1, learning_rate=0.0)),
        )
    )
    assert 0 < trained - least < 0.1 * (untrained - least)


@pytest.mark.parametrize("output", PREDICTIONS)
def test_the_loss_is_the_squared_error_of_the_output(output):
    net, x0, eps = EpsMLP((2,), make_schedule("rectified_flow"), 16, output=output), normal(6, 2), normal(6, 2, seed=1)
    raw = EpsMLP((2,), make_schedule("rectified_flow"), 16, output="epsilon")  # the same weights, not converted
    time = torch.tensor([100.0, 200.0, 300.0, 500.0, 700.0, 900.0])
    a = torch.tensor(net.schedule.alpha_bar, dtype=torch.float32)[time.long()]
    alpha, sigma = a.sqrt().unsqueeze(-1), (1 - a).sqrt().unsqueeze(-1)
    expected = (raw(diffuse(x0, eps, a.unsqueeze(-1)), time) - target(output, x0, eps, alpha, sigma)).square().mean()
    torch.testing.assert_close(denoising_loss(net, x0, time, eps, a, output), expected, rtol=1e-3, atol=1e-5)
    for other in set(PREDICTIONS) - {output}:  # negative control
        assert not torch.allclose(denoising_loss(net, x0, time, eps, a, other), expected, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "unet"}, r"Unknown kind of denoiser 'unet'\. Choose one of \['mlp'\]"),
        ({"prediction": "noise"}, r"Unknown prediction 'noise'"),
        ({"schedule": "edm"}, r"Unknown noise schedule 'edm'"),
    ],
)
def test_what_cannot_be_trained_is_refused(world, change, message):
    with pytest.raises(ValueError, match=message):
        pretrain(world, replace(SHORT, **change))


def test_a_kind_that_is_not_converted_yet_is_adapted(world, monkeypatch):
    class Affine(NetworkDenoiser):
        """Predicts its output itself, for flat batches."""

        kind = "affine"

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.prediction, self.gain = self.output, torch.nn.Parameter(torch.zeros(2))

        def forward(self, x, time):
            assert time.shape == x.shape[:1]
            return self.gain * x

    monkeypatch.setitem(DENOISERS, "affine", Affine)
    losses = []
    config = replace(
        SHORT, kind="affine", prediction="sample", schedule="rectified_flow", learning_rate=0.05, ema_decay=0.5
    )
    net = pretrain(world, replace(config, num_updates=120), lambda _, loss: losses.append(float(loss)))
    assert isinstance(net, Affine) and (net.gain > 0.1).all() and not net.gain.requires_grad
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


def weights(net):
    return torch.nn.utils.parameters_to_vector(net.parameters())


def test_the_result_is_a_function_of_the_seed_alone(world):
    before = torch.get_rng_state()
    first = pretrain(world, SHORT)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    assert torch.equal(weights(first), weights(pretrain(world, SHORT)))
    assert not torch.equal(weights(first), weights(pretrain(world, replace(SHORT, seed=1))))


def test_the_result_is_frozen_and_has_the_configured_size(world):
    net = pretrain(world, replace(SHORT, schedule="linear", num_levels=50))
    assert not any(p.requires_grad for p in net.parameters())
    assert (net.shape, net.width, net.depth) == ((2,), 16, 2)
    assert (net.schedule.name, net.schedule.num_levels) == ("linear", 50)


def test_the_result_is_the_moving_average_of_the_weights(world):
    first, last, half = (
        weights(pretrain(world, replace(SHORT, num_updates=2, ema_decay=decay))) for decay in (1.0, 0.0, 0.5)
    )
    torch.testing.assert_close(half, (first + last) / 2)
    assert (first - last).abs().max() > 1e-3


def test_every_update_is_reported(world):
    seen = []
    pretrain(world, SHORT, on_update=lambda i, loss: seen.append((i, loss)))
    assert [i for i, _ in seen] == list(range(5))
    assert all(loss.shape == () and not loss.requires_grad and math.isfinite(loss) for _, loss in seen)


def test_a_loss_that_is_not_finite_stops_with_a_message(world):
    bad = replace(world, train=torch.full((100, 2), 1e30))
    seen = []
    with pytest.raises(FloatingPointError, match=r"became inf at update 0\. Lower learning_rate, or look for"):
        pretrain(bad, SHORT, on_update=lambda i, _: seen.append(i))
    assert seen == []


def test_a_divergence_at_the_last_update_is_found(world):
    with pytest.raises(FloatingPointError, match=r"at update 4\."):
        pretrain(world, replace(SHORT, learning_rate=1e30))


def test_images_pretrain_as_well():
    digits = load_dataset("digits")
    losses = []
    net = pretrain(digits, replace(SHORT, num_updates=60, width=64), on_update=lambda _, loss: losses.append(loss))
    assert net(normal(3, 1, 8, 8), torch.tensor(500.0)).shape == (3, 1, 8, 8)
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])
