"""The adapter from networks to denoisers, and a schedule at fractional levels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.denoiser import EpsDenoiser, Levels, PathAt, as_denoiser, ask_at_steps, unit_columns
from diffusion_env.samplers.predictions import PREDICTIONS
from diffusion_env.samplers.schedules import SCHEDULES, make_schedule
from tests.support import normal, small_network

MEANS, STD = torch.tensor([[1.2, 0.0], [-0.6, 1.0], [-0.6, -1.0]]), 0.2
PATHS = ["cosine", "karras", "rectified_flow"]


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("path", PATHS)
def test_any_network_on_any_path_answers_eps(path: str, prediction: str, path_network: Any) -> None:
    schedule = make_schedule(path)
    exact = MixtureDenoiser(MEANS, STD, schedule)
    adapted = as_denoiser(path_network(MEANS, STD, schedule, prediction))
    x, time = normal(4, 6, 2), torch.tensor([[900.0], [500.0], [200.0], [50.0]])  # (K, 1) against (K, B)
    torch.testing.assert_close(adapted(x, time), exact(x, time), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adapted(x[0], time[0, 0]), exact(x[0], time[0, 0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(adapted(x[:, 0], time[:, 0]), exact(x[:, 0], time[:, 0]), rtol=1e-3, atol=1e-3)


def test_negative_control_a_network_taken_for_another(path_network: Any) -> None:
    network = path_network(MEANS, STD, make_schedule("karras"), "flow")
    x, time = normal(50, 2), torch.tensor(500.0)
    right = EpsDenoiser(network)(x, time)
    for name, wrong in {"inner_prediction": "v_prediction", "rescales": False}.items():
        adapted = EpsDenoiser(network)
        setattr(adapted, name, wrong)
        assert (adapted(x, time) - right).abs().max() > 0.1


class Recorder(nn.Module):
    """Records the shapes it is given and answers x."""

    prediction = "epsilon"

    def __init__(self, broadcasts_time: bool) -> None:
        super().__init__()
        self.shape: tuple[int, ...] = (1, 2, 2)
        self.schedule, self.broadcasts_time = make_schedule("cosine"), broadcasts_time
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.seen += [tuple(x.shape), tuple(time.shape)]
        return x


@pytest.mark.parametrize("time_shape", [(), (5,), (3, 1), (3, 5)])
def test_one_time_per_sample_unless_the_network_broadcasts(time_shape: tuple[int, ...]) -> None:
    x, time = normal(3, 5, 1, 2, 2), 1 + 900 * torch.rand(time_shape)
    plain, broadcasting = Recorder(False), Recorder(True)
    assert torch.equal(as_denoiser(plain)(x, time), x)
    assert plain.seen == [(15, 1, 2, 2), (15,)]
    assert as_denoiser(broadcasting) is broadcasting
    EpsDenoiser(broadcasting)(x, time)
    assert broadcasting.seen == [tuple(x.shape), time_shape]


def test_samples_keep_their_times_when_the_batch_is_flattened() -> None:
    class Time(Recorder):
        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return time.reshape(-1, 1, 1, 1).expand_as(x)

    time = torch.tensor([[900.0], [40.0], [3.5]])
    answers = as_denoiser(Time(False))(normal(3, 5, 1, 2, 2), time)
    assert torch.equal(answers, time.reshape(3, 1, 1, 1, 1).expand(3, 5, 1, 2, 2))


def test_a_denoiser_passes_through() -> None:
    for network in (EpsMLP((2,), make_schedule("karras"), 16), MixtureDenoiser(MEANS, STD, make_schedule("karras"))):
        assert as_denoiser(network) is network
    adapted = as_denoiser(Recorder(False))
    assert as_denoiser(adapted) is adapted


def test_an_answer_of_another_shape_is_refused() -> None:
    class Flat(Recorder):
        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return x.flatten(1)

    with pytest.raises(ValueError, match=r"Flat answered shape \(15, 4\) for x of shape \(15, 1, 2, 2\) and time of"):
        as_denoiser(Flat(False))(normal(3, 5, 1, 2, 2), torch.tensor(20.0))


def test_a_function_is_a_network_too() -> None:
    class Function:
        """No module: it has no weights to train."""

        shape: tuple[int, ...] = (2,)
        schedule = make_schedule("rectified_flow")
        prediction = "flow"

        def __call__(self, x: Tensor, time: Tensor) -> Tensor:
            return x / time.unsqueeze(1)

    x, time = normal(3, 5, 2), torch.tensor(250.0)
    alpha, sigma = 0.75, 0.25
    scale = (alpha**2 + sigma**2) ** 0.5
    native = x * scale
    expected = native + alpha * native / 250  # eps = x_t + alpha u, since alpha + sigma = 1
    torch.testing.assert_close(as_denoiser(Function())(x, time), expected)


def test_an_unknown_prediction_is_refused() -> None:
    network = Recorder(True)
    network.prediction = "noise"
    with pytest.raises(ValueError, match=r"Unknown prediction 'noise'"):
        as_denoiser(network)


def test_the_adapter_trains_the_network_and_adds_no_weights() -> None:
    class Scaled(nn.Module):
        prediction = "v_prediction"

        def __init__(self) -> None:
            super().__init__()
            self.shape: tuple[int, ...] = (2,)
            self.schedule = make_schedule("karras")
            self.gain = nn.Parameter(torch.ones(2))

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.gain * x / (1 + x.abs())

    network = Scaled()
    adapted = as_denoiser(network)
    assert isinstance(adapted, EpsDenoiser) and set(adapted.state_dict()) == {"network.gain"}
    adapted(normal(3, 4, 2), torch.tensor(500.0)).sum().backward()
    assert network.gain.grad is not None and (network.gain.grad != 0).all()


def test_each_sample_is_asked_at_the_level_of_its_step() -> None:
    exact = MixtureDenoiser(MEANS, STD, make_schedule("cosine"))
    x, times, k = normal(4, 2), torch.tensor([900.0, 100.0]), torch.tensor([0, 1, 1, 0])
    assert torch.equal(ask_at_steps(exact, x, times, k), exact(x, times[k]))

    class AtSteps(Recorder):
        def at_steps(self, x: Tensor, times: Tensor, k: Tensor) -> Tensor:
            return torch.full_like(x, 7.0)

    assert (ask_at_steps(AtSteps(True), x, times, k) == 7).all()


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_a_schedule_at_its_levels_and_between(name: str) -> None:
    schedule = make_schedule(name, 50)
    path, time = PathAt(schedule), torch.arange(1.0, 51)
    alpha, sigma = unit_columns(path.log_snr(time))
    for ours, column in ((alpha, schedule.alpha), (sigma, schedule.sigma)):
        expected = torch.tensor(column[1:], dtype=torch.float32)
        torch.testing.assert_close(ours * path.scale(time), expected, rtol=1e-4, atol=1e-6)
    low, middle, high = (path.log_snr(torch.tensor(t)) for t in (20.0, 20.5, 21.0))
    torch.testing.assert_close(middle, (low + high) / 2)
    for inside, outside in ((1.0, 0.2), (50.0, 70.0)):
        assert path.scale(torch.tensor(inside)) == path.scale(torch.tensor(outside))
    assert path.state_dict() == {}


@pytest.mark.gpu
def test_on_an_accelerator(path_network: Any) -> None:
    network, schedule = Recorder(False).cuda(), make_schedule("karras")
    network.schedule, x = schedule, normal(5, 1, 2, 2)
    time = torch.tensor(500.0)
    on_device = as_denoiser(network, "cuda")(x.cuda(), time.cuda())
    torch.testing.assert_close(on_device.cpu(), as_denoiser(network)(x, time))


def test_prepared_levels_answer_bit_for_bit_as_the_denoiser() -> None:
    network, other, x = small_network(), small_network(seed=1), normal(5, 2)
    times = torch.tensor([900.0, 40.5])
    levels = Levels(times)
    with torch.no_grad():
        for denoiser in (network, other, network):  # what was prepared for another is not used
            for k in (0, 1, 1):
                assert torch.equal(levels.ask(denoiser, x, k), denoiser(x, times[k]))
        assert not torch.equal(levels.ask(network, x, 0), network(x, times[1]))
    steps = torch.tensor([[0], [1]])
    assert torch.equal(levels.ask(network, x.expand(2, 5, 2), steps), network(x.expand(2, 5, 2), times[steps]))


def test_levels_are_embedded_once_where_weights_stay_unchanged() -> None:
    network, x, levels = small_network(), normal(5, 2), Levels(torch.tensor([900.0, 40.5]))
    embeddings = []
    network.net.scales.register_forward_hook(lambda *call: embeddings.append(call))
    with torch.no_grad(), levels.unchanged():
        first = [levels.ask(network, x, k) for k in (0, 1, 0, 1)]
        assert len(embeddings) == 2 and torch.equal(first[0], first[2])
        with torch.enable_grad():  # a gradient reaches the weights of the embedding
            levels.ask(network, x, 0).sum().backward()
            assert next(network.net.scales.parameters()).grad is not None
    with torch.no_grad():
        next(network.net.scales.parameters()).mul_(2.0)
        assert torch.equal(levels.ask(network, x, 0), network(x, torch.tensor(900.0)))
        assert not torch.equal(levels.ask(network, x, 0), first[0])


def test_levels_of_a_denoiser_without_them_are_asked_as_they_are() -> None:
    exact = MixtureDenoiser(MEANS, STD, make_schedule("cosine"))
    assert torch.equal(Levels(torch.tensor([500.0])).ask(exact, MEANS, 0), exact(MEANS, torch.tensor(500.0)))
