"""Layers: their shapes, the law of their first weights, and conditions that scale them."""

import pytest
import torch
from torch import nn

from diffusion_env.networks.bodies import make_body
from diffusion_env.networks.layers import (
    FREE_WEIGHTS,
    Conditioned,
    FourierFeatures,
    Hidden,
    MaxMin,
    Stack,
    convolution,
    dense,
    linear,
    mlp,
    plain,
    weights_at_most,
)
from tests.support import seeded


def test_the_law_of_the_weights_is_torch_s() -> None:
    """torch draws weights and biases from U(-b, b), b = 1 / sqrt(inputs of one output)."""
    for ours, theirs in (
        (linear(64, 900, seeded()), nn.Linear(64, 900)),
        (convolution(4, 900, (8, 8), seeded()), nn.Conv2d(4, 900, 4)),
    ):
        for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert weight.shape == other.shape
            assert float(weight.detach().abs().max()) == pytest.approx(1 / 8, rel=0.01)
            assert float(weight.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.06)


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (convolution(3, 8, (8, 8), seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.weight, again.weight) and not torch.equal(first.weight, other.weight)


def test_mlp_has_no_activation_after_the_last_layer() -> None:
    network = mlp([3, 5, 2], seeded())
    assert [type(layer) for layer in network] == [nn.Linear, nn.SiLU, nn.Linear]
    assert network(torch.zeros(4, 6, 3)).shape == (4, 6, 2)


@pytest.mark.parametrize("grid", [(8, 8), (9, 14)])
def test_a_convolution_halves_the_image_under_any_batch(grid: tuple[int, int]) -> None:
    layer = convolution(3, 6, grid, seeded())
    x = torch.randn(4, 5, 3, *grid, generator=seeded())
    maps = layer(x)
    assert maps.shape == (4, 5, 6, grid[0] // 2, grid[1] // 2)
    torch.testing.assert_close(maps[1], layer(x[1]))
    torch.testing.assert_close(maps[1, 2], layer(x[1, 2]))
    assert layer(x[:0, 0]).shape == (0, 6, grid[0] // 2, grid[1] // 2)


@pytest.mark.parametrize(("shape", "dim"), [((7, 6), -1), ((7, 6, 3, 2), -3)])
def test_maxmin_sorts_pairs_of_features(shape: tuple[int, ...], dim: int) -> None:
    x = torch.randn(shape, generator=seeded())
    first, second = MaxMin(dim)(x).chunk(2, dim)
    left, right = x.chunk(2, dim)
    assert torch.equal(first + second, left + right)
    assert bool((first >= second).all())
    torch.testing.assert_close(MaxMin(dim)(x).norm(), x.norm())  # it moves numbers and loses none


@pytest.mark.parametrize(("shape", "dim"), [((5, 3), -1), ((5, 3, 8, 4), -3)])
def test_fourier_features_of_points_and_of_pixels(shape: tuple[int, ...], dim: int) -> None:
    features = FourierFeatures(3, 10, 2.0, seeded(), feature_dim=dim)
    x = torch.randn(shape, generator=seeded(1))
    found = features(x).movedim(dim, -1)
    assert found.shape[-1] == features.out_dim == 23
    pixels, sines, cosines = found.split([3, 10, 10], -1)
    assert torch.equal(pixels, x.movedim(dim, -1))
    torch.testing.assert_close(sines, (pixels @ features.directions).sin())
    torch.testing.assert_close(sines.square() + cosines.square(), torch.ones_like(sines))


def test_fourier_frequency_is_the_spread_of_a_phase() -> None:
    features = FourierFeatures(50, 4000, 3.0, seeded())
    phases = torch.ones(50) @ features.directions  # a point of root mean square 1
    assert float(phases.std()) == pytest.approx(3.0, rel=0.05)


def image_stack(generator: torch.Generator) -> Stack:
    conv = Hidden(convolution(2, 6, (8, 8), generator), 6, on_grid=True)
    flat = Hidden(nn.Sequential(nn.Flatten(-3), linear(6 * 16, 10, generator)), 10)
    return Stack([], [conv, flat])


def test_plain_puts_an_activation_after_each_hidden_layer() -> None:
    network = plain(image_stack(seeded()), 3, seeded(), MaxMin)
    dims = [layer.feature_dim for layer in network if isinstance(layer, MaxMin)]
    assert dims == [-3, -1]
    assert isinstance(network[-1], nn.Linear) and network(torch.zeros(7, 2, 8, 8)).shape == (7, 3)


def test_a_condition_scales_units_and_channels() -> None:
    """One scale per unit and per channel: what the layers give is multiplied before the activation."""
    network = Conditioned(image_stack(seeded()), 3, 4, seeded())
    x, cond = torch.randn(5, 2, 8, 8, generator=seeded()), torch.randn(5, 4, generator=seeded())
    channels, units = (1 + network.scales(cond)).split([6, 10], -1)
    maps = nn.functional.silu(network.hidden[0](x) * channels.view(5, 6, 1, 1))
    torch.testing.assert_close(network(x, cond), network.out(nn.functional.silu(network.hidden[1](maps) * units)))
    assert not torch.allclose(network(x, cond), network(x, cond.flip(0)))


@pytest.mark.parametrize("kind", ["points", "images"])
def test_conditions_are_shared_or_picked(kind: str) -> None:
    """A condition of many samples gives what each sample gives with its own, broadcast or picked by an index."""
    points = Stack([], dense([2, 8, 8], seeded()))
    stack, shape = (points, (2,)) if kind == "points" else (image_stack(seeded()), (2, 8, 8))
    network = Conditioned(stack, 3, 4, seeded())
    x, cond = torch.randn(6, 5, *shape, generator=seeded()), torch.randn(6, 1, 4, generator=seeded())
    alone = torch.stack([torch.stack([network(x[i, j], cond[i, 0]) for j in range(5)]) for i in range(6)])
    torch.testing.assert_close(network(x, cond), alone)
    index = torch.arange(6).unsqueeze(1).expand(6, 5)
    torch.testing.assert_close(network(x, cond[:, 0], index), alone)


def test_a_stack_of_linear_layers() -> None:
    layers = dense([3, 8, 4], seeded())
    assert [hidden.features for hidden in layers] == [8, 4] and not any(hidden.on_grid for hidden in layers)
    assert sum(weight.numel() for weight in layers[1].layer.parameters()) == 8 * 4 + 4


def test_a_network_of_too_many_weights_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(
        ValueError, match=r"1000000 units would have 1,000,000,000,000 weights \(3725.3 GiB in float32\)"
    ):
        linear(10**6, 10**6, seeded())
    with pytest.raises(
        ValueError, match=r"128 hidden layers of 8192 units would have .* are allowed\. Give a smaller width"
    ):
        make_body((2,), 1, seeded(), width=8192, depth=128)
    with pytest.raises(ValueError, match="Fourier features of 100000 components"):
        FourierFeatures(10**5, 10**5, 1.0, seeded())


def test_a_network_from_a_file_is_no_larger_than_the_file() -> None:
    with weights_at_most(3 * FREE_WEIGHTS):
        linear(1024, 3 * 1024, seeded())
        with pytest.raises(ValueError, match="more than the 3,145,728 that the file that it is made from can fill"):
            linear(1024, 4 * 1024, seeded())
    with weights_at_most(0):
        linear(1024, 1024, seeded())  # small networks are made whatever the file holds
    linear(1024, 4 * 1024, seeded())  # the limit ends with its block
