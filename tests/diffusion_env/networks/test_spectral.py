"""The norm of a layer as an operator, against the singular values of its whole matrix."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from diffusion_env.networks.bodies import make_body
from diffusion_env.networks.layers import Convolution, MaxMin, convolution
from diffusion_env.networks.spectral import bound_slope, iterate_norms


def operator_norm(layer: nn.Module) -> float:
    """The largest singular value of the layer's linear part, from its matrix."""
    if isinstance(layer, nn.Linear):
        return float(torch.linalg.matrix_norm(layer.weight.detach(), 2))
    assert isinstance(layer, Convolution)
    size = layer.in_channels * layer.grid[0] * layer.grid[1]
    every_pixel = torch.eye(size).view(size, layer.in_channels, *layer.grid)
    with torch.no_grad():
        matrix = layer(every_pixel) - layer(torch.zeros_like(every_pixel[:1]))
    return float(torch.linalg.matrix_norm(matrix.flatten(1), 2))


def layers_of(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, nn.Linear | Convolution)]


def body(shape: tuple[int, ...], width: int = 64) -> nn.Sequential:
    return make_body(shape, 1, torch.Generator().manual_seed(0), width=width, depth=2, activation=MaxMin)


def slopes(network: nn.Module, shape: tuple[int, ...], distance: float) -> Tensor:
    """|f(x) - f(y)| / |x - y| of random pairs."""
    draws = torch.Generator().manual_seed(1)
    x = torch.randn(500, *shape, generator=draws)
    y = x + distance * torch.randn(500, *shape, generator=draws)
    with torch.no_grad():
        return (network(x) - network(y)).abs().squeeze(1) / (x - y).flatten(1).norm(dim=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (2, 11, 8)])
def test_every_layer_has_norm_one(shape: tuple[int, ...]) -> None:
    network = body(shape)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(3)
    assert min(operator_norm(layer) for layer in layers_of(network)) > 1.1
    bound_slope(network, seed=0)
    for layer in layers_of(network):
        assert operator_norm(layer) == pytest.approx(1.0, abs=0.02)


def test_the_reshaped_kernel_is_not_the_convolution() -> None:
    """Negative control: torch's spectral norm of the kernel as a matrix leaves a convolution of norm 2."""
    by_matrix, by_operator = (convolution(3, 8, (16, 16), torch.Generator()) for _ in range(2))
    with torch.no_grad():
        by_matrix.weight.fill_(0.1)
        by_operator.weight.fill_(0.1)
    spectral_norm(by_matrix)
    bound_slope(by_operator, seed=0)
    assert float(torch.linalg.matrix_norm(by_matrix.weight.detach().flatten(1), 2)) == pytest.approx(1.0, abs=1e-3)
    assert operator_norm(by_matrix) == pytest.approx(2.0, abs=0.1)
    assert operator_norm(by_operator) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (3, 16, 16)])
def test_pairs_of_points_show_no_slope_above_one(shape: tuple[int, ...]) -> None:
    network, control = body(shape), body(shape)
    with torch.no_grad():
        for weight in [*network.parameters(), *control.parameters()]:
            weight.mul_(5)
    bound_slope(network, seed=0)
    for distance in (1e-2, 1.0, 10.0):
        assert float(slopes(network, shape, distance).max()) <= 1.001
    assert float(slopes(control, shape, 1.0).max()) > 1.1


def test_the_norms_follow_the_weights() -> None:
    network = body((3, 16, 16))
    bound_slope(network, seed=0)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=draws))
    before = max(operator_norm(layer) for layer in layers_of(network))
    for _ in range(10):
        iterate_norms(network)
    assert before > 1.2
    assert max(operator_norm(layer) for layer in layers_of(network)) < 1.02


def test_outside_an_iteration_nothing_moves() -> None:
    network = body((1, 8, 8))
    bound_slope(network, seed=0)
    assert not network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(5, 1, 8, 8)
    assert torch.equal(network(x), network(x))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_seed_starts_the_iterations_and_the_global_generator_stays() -> None:
    state = torch.get_rng_state()
    networks = [body((1, 8, 8)) for _ in range(3)]
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        bound_slope(network, seed)
    assert torch.equal(torch.get_rng_state(), state)
    starts = [[v for name, v in network.state_dict().items() if name.endswith("right")] for network in networks]
    assert all(torch.equal(a, b) for a, b in zip(starts[0], starts[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(starts[0], starts[2], strict=True))


def test_unknown_layers_are_refused() -> None:
    for layer in (nn.BatchNorm1d(2), nn.LayerNorm(2, elementwise_affine=False), nn.SiLU()):
        with pytest.raises(
            TypeError, match=rf"slope of a {type(layer).__name__} cannot be bounded.*'gradient_penalty'"
        ):
            bound_slope(nn.Sequential(nn.Linear(2, 2), layer), seed=0)
