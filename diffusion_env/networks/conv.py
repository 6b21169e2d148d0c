"""The convolutional body of images."""

from __future__ import annotations

import torch
from torch import nn

from diffusion_env.networks.layers import Fourier, FourierFeatures, Hidden, Stack, convolution, dense

SMALLEST_SIDE = 8
"""Pixels. The convolutions halve the image as long as its shorter side has this many; below, none would be left."""
FEWEST_CHANNELS = 8


def conv_stack(
    shape: tuple[int, ...], width: int, depth: int, fourier: Fourier | None, generator: torch.Generator
) -> Stack:
    """Strided convolutions that halve the image (C, H, W) until its shorter side is 4 to 7, then a perceptron.

    The last convolution has ``width`` / 4 channels, so that 16 pixels of them are 4 ``width`` numbers; each earlier one
    has half as many as the next, but at least 8 (as in DCGAN, Radford et al. 2016), and an even number. The last
    feature maps are flattened into ``depth`` hidden layers of ``width`` units.

    A kernel of a few pixels sees fine detail as it is, so Fourier features are taken only where their number is given;
    they are then those of each pixel's C channels.

    Raises ValueError for an event that is no image, or whose shorter side is less than `SMALLEST_SIDE`.
    """
    if not is_large_image(shape):
        raise ValueError(
            f"The body 'conv' was asked for events of shape {shape}, but it takes images (C, H, W) with H and W at "
            f"least {SMALLEST_SIDE} pixels. Choose body='mlp', which takes any shape, or None to choose by shape."
        )
    channels, *sides = shape
    inputs: list[nn.Module] = []
    if fourier is not None and fourier.num_features:
        features = FourierFeatures(channels, fourier.num_features, fourier.frequency, generator, feature_dim=-3)
        channels, inputs = features.out_dim, [features]
    h, w = sides
    hidden: list[Hidden] = []
    for later in reversed(range((min(sides) // SMALLEST_SIDE).bit_length())):  # how many convolutions still follow
        out_channels = max(FEWEST_CHANNELS, 2 * (width >> (later + 3)))
        hidden.append(Hidden(convolution(channels, out_channels, (h, w), generator), out_channels, on_grid=True))
        channels, h, w = out_channels, h // 2, w // 2
    first, *others = dense([channels * h * w, *[width] * depth], generator)
    return Stack(inputs, [*hidden, Hidden(nn.Sequential(nn.Flatten(-3), first.layer), width), *others])


def is_large_image(shape: tuple[int, ...]) -> bool:
    """Whether an event is an image (C, H, W) with enough pixels to convolve."""
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST_SIDE
