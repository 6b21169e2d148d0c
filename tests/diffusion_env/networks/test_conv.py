"""The convolutional body: as many halvings as the image allows, then hidden layers; and which images it takes."""

import pytest
import torch

from diffusion_env.networks.conv import SMALLEST_SIDE, conv_stack, is_large_image
from diffusion_env.networks.layers import Convolution, Fourier


def convolutions(shape: tuple[int, ...], width: int = 64, fourier: Fourier | None = None) -> list[Convolution]:
    stack = conv_stack(shape, width, 2, fourier, torch.Generator().manual_seed(0))
    return [hidden.layer for hidden in stack.hidden if isinstance(hidden.layer, Convolution)]


@pytest.mark.parametrize(
    ("shape", "channels", "last"),
    [
        ((1, 8, 8), [16], (4, 4)),
        ((3, 15, 11), [16], (7, 5)),
        ((3, 16, 16), [8, 16], (4, 4)),
        ((3, 32, 32), [8, 8, 16], (4, 4)),
        ((4, 8, 40), [16], (4, 20)),
        ((1, 28, 28), [8, 16], (7, 7)),
    ],
)
def test_the_image_is_halved_until_it_is_small(
    shape: tuple[int, ...], channels: list[int], last: tuple[int, int]
) -> None:
    layers = convolutions(shape)
    assert [layer.out_channels for layer in layers] == channels
    x = torch.zeros(2, *shape)
    for layer in layers:
        assert tuple(x.shape[-2:]) == layer.grid
        x = layer(x)
    assert tuple(x.shape[-2:]) == last


@pytest.mark.parametrize("width", [2, 10, 34, 100, 256])
def test_every_convolution_has_an_even_number_of_channels(width: int) -> None:
    """The critic "spectral_norm" sorts channels in pairs."""
    assert all(layer.out_channels % 2 == 0 for layer in convolutions((3, 64, 64), width))


def test_the_hidden_layers_are_of_the_width() -> None:
    stack = conv_stack((3, 16, 16), 24, 3, None, torch.Generator())
    assert [hidden.features for hidden in stack.hidden if not hidden.on_grid] == [24, 24, 24]


def test_fourier_features_only_where_their_number_is_given() -> None:
    assert convolutions((3, 16, 16), fourier=Fourier(None, 4.0))[0].in_channels == 3
    assert convolutions((3, 16, 16), fourier=Fourier(0, 4.0))[0].in_channels == 3
    assert convolutions((3, 16, 16), fourier=Fourier(5, 4.0))[0].in_channels == 3 + 2 * 5


@pytest.mark.parametrize("shape", [(2,), (64,), (8, 8), (1, 7, 8), (3, 32, 4), (2, 3, 8, 8)])
def test_other_events_are_refused(shape: tuple[int, ...]) -> None:
    assert not is_large_image(shape)
    with pytest.raises(
        ValueError, match=r"takes images \(C, H, W\) with H and W at least 8 pixels.*body='mlp'"
    ) as error:
        convolutions(shape)
    assert str(shape) in str(error.value)
    assert is_large_image((1, SMALLEST_SIDE, SMALLEST_SIDE))
