"""Predictions: their definitions, every conversion and back, and what is refused."""

import itertools
import math
from functools import partial

import pytest
import torch
from torch import Tensor

from diffusion_env.samplers.predictions import PREDICTIONS, convert, squared_slope, target, to_epsilon, to_sample
from tests.support import normal

exact = partial(normal, dtype=torch.float64)
PAIRS = list(itertools.product(PREDICTIONS, PREDICTIONS))


def levels(event_dims: int) -> tuple[Tensor, Tensor]:
    """alpha and sigma (8, 1, ..., 1), from nearly data to nearly noise."""
    angle = torch.linspace(0.01, math.pi / 2 - 0.01, 8, dtype=torch.float64).reshape(8, *[1] * event_dims)
    return angle.cos(), angle.sin()


@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)])
@pytest.mark.parametrize(("kind", "to"), PAIRS)
def test_every_prediction_becomes_every_other(kind: str, to: str, shape: tuple[int, ...]) -> None:
    x0, eps, (alpha, sigma) = (
        exact(8, *shape),
        exact(8, *shape, seed=1),
        levels(len(shape)),
    )
    x = alpha * x0 + sigma * eps
    found = convert(kind, target(kind, x0, eps, alpha, sigma), to, x, alpha, sigma)
    torch.testing.assert_close(found, target(to, x0, eps, alpha, sigma), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_data_and_noise_come_back(kind: str) -> None:
    x0, eps, (alpha, sigma) = exact(8, 2), exact(8, 2, seed=1), levels(1)
    x = alpha * x0 + sigma * eps
    prediction = target(kind, x0, eps, alpha, sigma)
    torch.testing.assert_close(to_epsilon(kind, prediction, x, alpha, sigma), eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(to_sample(kind, prediction, x, alpha, sigma), x0, rtol=1e-9, atol=1e-9)
    for other in set(PREDICTIONS) - {kind}:  # negative control: a prediction taken for another
        assert not torch.allclose(to_epsilon(other, prediction, x, alpha, sigma), eps, atol=0.1)


def test_the_definitions() -> None:
    one, none = torch.ones(1), torch.zeros(1)
    x0, eps = torch.tensor([2.0]), torch.tensor([5.0])
    for kind, at_data, at_noise in (
        ("epsilon", 5.0, 5.0),
        ("sample", 2.0, 2.0),
        ("v_prediction", 5.0, -2.0),
        ("flow", 3.0, 3.0),
    ):
        assert target(kind, x0, eps, one, none) == at_data
        assert target(kind, x0, eps, none, one) == at_noise


def test_near_pure_noise_float32_keeps_what_is_known_of_the_data() -> None:
    x0, eps = exact(50, 2).float(), exact(50, 2, seed=1).float()
    alpha = torch.full((50, 1), 1e-4)
    sigma = (1 - alpha**2).sqrt()
    x = alpha * x0 + sigma * eps
    for kind in ("sample", "v_prediction", "flow"):
        v = convert(kind, target(kind, x0, eps, alpha, sigma), "v_prediction", x, alpha, sigma)
        torch.testing.assert_close(v, target("v_prediction", x0, eps, alpha, sigma), rtol=1e-5, atol=1e-5)
    lost = to_sample("epsilon", eps, x, alpha, sigma) - x0  # negative control: from eps alone it is not known
    assert lost.abs().max() > 1e-4


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_slope_is_the_derivative_of_eps(kind: str) -> None:
    x, (alpha, sigma) = exact(8, 1), levels(1)
    prediction = exact(8, 1, seed=1).requires_grad_()
    (slope,) = torch.autograd.grad(to_epsilon(kind, prediction, x, alpha, sigma).sum(), prediction)
    torch.testing.assert_close(squared_slope(kind, alpha**2), slope**2)


def test_what_is_refused() -> None:
    x, (alpha, sigma) = exact(8, 2), levels(1)
    with pytest.raises(ValueError, match=r"Unknown prediction 'noise'.*one of \['epsilon', 'v_prediction', "):
        to_epsilon("noise", x, x, alpha, sigma)
    with pytest.raises(AssertionError):  # they would broadcast to (8, 8, 2) in silence
        to_epsilon("sample", x.unsqueeze(1), x, alpha, sigma)
    with pytest.raises(AssertionError):
        to_sample("sample", x, x, alpha, sigma.squeeze())
    with pytest.raises(RuntimeError):
        target("sample", x, x, alpha.squeeze(), sigma.squeeze())
