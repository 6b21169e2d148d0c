"""One place decides what network reads events of some shape: a body, by name or by shape.

A new body is a function like `mlp_stack` or `conv_stack`, in a file of its own, and a line in `BODIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from diffusion_env.networks.conv import conv_stack, is_large_image
from diffusion_env.networks.layers import (
    Activation,
    Conditioned,
    Fourier,
    FourierFeatures,
    Stack,
    check_weights,
    dense,
    plain,
    silu,
)

POINT_FEATURES = 64
"""Random directions of Fourier features in front of a multi-layer perceptron, where no number is given."""

StackMaker = Callable[[tuple[int, ...], int, int, Fourier | None, torch.Generator], Stack]
"""``make(shape, width, depth, fourier, generator)``: initial weights drawn by ``generator`` alone."""


def mlp_stack(
    shape: tuple[int, ...], width: int, depth: int, fourier: Fourier | None, generator: torch.Generator
) -> Stack:
    """``depth`` linear layers of ``width`` units on the flattened event, behind Fourier features if asked for."""
    dim = math.prod(shape)
    inputs: list[nn.Module] = [nn.Flatten(-len(shape))] if len(shape) > 1 else []
    if fourier is not None and fourier.num_features != 0:
        number = POINT_FEATURES if fourier.num_features is None else fourier.num_features
        features = FourierFeatures(dim, number, fourier.frequency, generator)
        dim, inputs = features.out_dim, [*inputs, features]
    return Stack(inputs, dense([dim, *[width] * depth], generator))


BODIES: dict[str, StackMaker] = {
    "mlp": mlp_stack,  # any shape, flattened
    "conv": conv_stack,  # images (C, H, W) with sides of at least 8 pixels
}
"""The names of ``body``."""


def body_name(shape: Sequence[int], body: str | None = None) -> str:
    """``body`` if it is a name in `BODIES`; for None the one that suits events of ``shape``.

    Images (C, H, W) with H and W at least 8 pixels get "conv", all else "mlp": in a smaller image nothing is left to
    halve. Raises ValueError for an unknown name.
    """
    if body is None:
        return "conv" if is_large_image(tuple(shape)) else "mlp"
    if body not in BODIES:
        raise ValueError(
            f"There is no body {body!r} of a network. Choose one of {sorted(BODIES)}, or None, which takes 'conv' for "
            "images whose sides have at least 8 pixels and 'mlp' for all else."
        )
    return body


def make_body(
    shape: Sequence[int],
    out_dim: int,
    generator: torch.Generator,
    *,
    body: str | None = None,
    width: int = 256,
    depth: int = 2,
    activation: Activation = silu,
    fourier: Fourier | None = None,
) -> nn.Sequential:
    """A network from events (*batch, *shape) to (*batch, out_dim).

    Args:
        shape: of one event, not flattened.
        out_dim: how many numbers come out.
        generator: on the CPU; draws the initial weights, and nothing else does.
        body: a name in `BODIES`; None chooses by shape, see `body_name`.
        width: units of each hidden layer; the last convolution of "conv" has a quarter as many channels.
        depth: hidden layers; of "conv" those behind the convolutions, whose number follows from the image's size.
        activation: after each hidden layer.
        fourier: Fourier features in front; None for none.

    Raises ValueError for an unknown body, one that does not take this shape, a width or depth below 1, and, before
    memory is taken, for more than `MOST_WEIGHTS` weights.
    """
    stack = BODIES[body_name(shape, body)](tuple(shape), *_checked(width, depth), fourier, generator)
    return plain(stack, out_dim, generator, activation)


def make_conditioned_body(
    shape: Sequence[int],
    out_dim: int,
    cond_dim: int,
    generator: torch.Generator,
    *,
    body: str | None = None,
    width: int = 128,
    depth: int = 2,
) -> Conditioned:
    """`make_body` with SiLU, whose hidden layers (units, or channels) are scaled by a condition: see `Conditioned`.

    From events (*batch, *shape) and conditions (*c, cond_dim) to (*batch, out_dim). Errors as `make_body`.
    """
    stack = BODIES[body_name(shape, body)](tuple(shape), *_checked(width, depth), None, generator)
    return Conditioned(stack, out_dim, cond_dim, generator)


def _checked(width: int, depth: int) -> tuple[int, int]:
    if min(width, depth) < 1:
        raise ValueError(
            f"A network was asked for width {width} and depth {depth}, but it needs at least one hidden layer of at "
            "least one unit. Give both as integers >= 1."
        )
    check_weights((depth - 1) * width**2, f"{depth} hidden layers of {width} units would")
    return width, depth
