"""Layers whose initial weights come from a generator, never from the global seed, and how they are stacked.

A body (`diffusion_env.networks.bodies`) is described by a `Stack`: what is done to an event first, then hidden layers.
`plain` and `Conditioned` turn a stack into a network. Shapes: ``*batch`` any batch dimensions, ``*shape`` one event.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

MOST_WEIGHTS = 2**27
"""Of one network: half a gigabyte in float32, and Adam keeps two numbers more for each weight."""
FREE_WEIGHTS = 2**20
"""Of a network that is made whatever a file holds."""
_most: ContextVar[int] = ContextVar("most weights", default=MOST_WEIGHTS)


@contextmanager
def weights_at_most(number: int) -> Iterator[None]:
    """Networks made inside have at most ``number`` weights, or `FREE_WEIGHTS` if that is more: see `check_weights`.

    For what is built from a file: no memory is taken for a network that is larger than the file.
    """
    token = _most.set(min(max(number, FREE_WEIGHTS), MOST_WEIGHTS))
    try:
        yield
    finally:
        _most.reset(token)


def check_weights(number: int, what: str) -> None:
    """ValueError, before memory is taken, where ``what`` has a ``number`` of weights that is more than allowed."""
    most = _most.get()
    if number > most:
        limit = "are allowed" if most == MOST_WEIGHTS else "the file that it is made from can fill"
        raise ValueError(
            f"{what} have {number:,} weights ({4 * number / 2**30:.1f} GiB in float32), more than the {most:,} that "
            f"{limit}. Give a smaller width, depth or event."
        )


Activation = Callable[[int], nn.Module]
"""From the dimension in which a layer's features lie (-1, or -3 for feature maps) to the activation after it."""


def silu(feature_dim: int) -> nn.Module:
    """x * sigmoid(x), the default activation."""
    return nn.SiLU()


class MaxMin(nn.Module):
    """Sorts pairs of features, in the dimension ``feature_dim`` of even size; same shape, 1-Lipschitz, slope exactly 1.

    Anil et al., "Sorting out Lipschitz function approximation", ICML 2019: under a spectral bound,
    activations that lose slope (ReLU) cannot reach slope 1, and underestimate the distance.
    """

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim

    def forward(self, x: Tensor) -> Tensor:
        """The larger of each pair, then the smaller of each; any shape whose ``feature_dim`` has an even size."""
        first, second = x.chunk(2, dim=self.feature_dim)
        return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], dim=self.feature_dim)


def linear(in_dim: int, out_dim: int, generator: torch.Generator) -> nn.Linear:
    """An ``nn.Linear``, (*batch, in_dim) -> (*batch, out_dim), with torch's default law of initial weights, drawn by
    ``generator``."""
    check_weights(in_dim * out_dim, f"A layer from {in_dim} to {out_dim} units would")
    layer = nn.utils.skip_init(nn.Linear, in_dim, out_dim)
    _draw_weights(layer, in_dim, generator)
    return layer


def mlp(sizes: Sequence[int], generator: torch.Generator) -> nn.Sequential:
    """Multi-layer perceptron (*batch, sizes[0]) -> (*batch, sizes[-1]) with SiLU; none after the last layer."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [linear(n_in, n_out, generator), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class Convolution(nn.Conv2d):
    """Kernel 4, stride 2, zero padding 1: (*batch, in_channels, H, W) -> (*batch, out_channels, H // 2, W // 2)."""

    def __init__(
        self, in_channels: int, out_channels: int, grid: tuple[int, int], device: torch.device | str | None = None
    ) -> None:
        """``grid``: (H, W) of the input. The norm of the convolution as an operator depends on it."""
        super().__init__(in_channels, out_channels, kernel_size=4, stride=2, padding=1, device=device)
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        if x.ndim <= 4:
            return super().forward(x)
        return super().forward(x.flatten(0, -4)).unflatten(0, x.shape[:-3])


def convolution(in_channels: int, out_channels: int, grid: tuple[int, int], generator: torch.Generator) -> Convolution:
    """A `Convolution` with torch's default law of initial weights, drawn by ``generator``."""
    check_weights(16 * in_channels * out_channels, f"A convolution from {in_channels} to {out_channels} channels would")
    layer = nn.utils.skip_init(Convolution, in_channels, out_channels, grid)
    _draw_weights(layer, layer.weight[0].numel(), generator)
    return layer


def _draw_weights(layer: nn.Linear | Convolution, fan_in: int, generator: torch.Generator) -> None:
    bound = 1.0 / math.sqrt(fan_in)
    assert layer.bias is not None
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


@dataclass(frozen=True)
class Fourier:
    """Whether and how a body sees its input through `FourierFeatures`."""

    num_features: int | None
    """Random directions; 0 for none, None for the number that suits the body."""
    frequency: float
    """Standard deviation of a phase in radians where the input has root mean square 1."""


class FourierFeatures(nn.Module):
    """x and the sines and cosines of ``num_features`` random projections of it (Tancik et al. 2020, section 3).

    ``frequency``: standard deviation of a phase where x has root mean square 1. The ``dim`` components lie in
    dimension ``feature_dim``: (*batch, dim) -> (*batch, out_dim); with -3, (*batch, dim, H, W) -> (*batch, out_dim, H,
    W).
    """

    directions: Tensor

    def __init__(
        self, dim: int, num_features: int, frequency: float, generator: torch.Generator, feature_dim: int = -1
    ) -> None:
        super().__init__()
        check_weights(dim * num_features, f"{num_features} Fourier features of {dim} components would")
        self.out_dim, self.feature_dim = dim + 2 * num_features, feature_dim
        directions = torch.randn(dim, num_features, generator=generator) * (frequency / math.sqrt(dim))
        self.register_buffer("directions", directions)

    def forward(self, x: Tensor) -> Tensor:
        """The features; see the class."""
        phases = (x.movedim(self.feature_dim, -1) @ self.directions).movedim(-1, self.feature_dim)
        return torch.cat([x, phases.sin(), phases.cos()], self.feature_dim)


@dataclass(frozen=True)
class Hidden:
    """A hidden layer of a body."""

    layer: nn.Module
    """Its weights: (*batch, ...) -> (*batch, features), or (*batch, features, H, W) where it is ``on_grid``."""
    features: int
    """How many numbers, or channels, it gives."""
    on_grid: bool = False
    """Whether it gives feature maps: the features then lie in dimension -3."""


@dataclass(frozen=True)
class Stack:
    """A body before its last layer: what a network of one architecture does with events (*batch, *shape)."""

    inputs: list[nn.Module]
    """Applied first, without weights that learn: flattening, Fourier features."""
    hidden: list[Hidden]
    """At least one; the last gives (*batch, features), not feature maps."""


def dense(sizes: Sequence[int], generator: torch.Generator) -> list[Hidden]:
    """Hidden linear layers (*batch, sizes[0]) -> ... -> (*batch, sizes[-1])."""
    return [Hidden(linear(a, b, generator), b) for a, b in pairwise(sizes)]


def plain(stack: Stack, out_dim: int, generator: torch.Generator, activation: Activation = silu) -> nn.Sequential:
    """The network (*batch, *shape) -> (*batch, out_dim): the stack, an activation after each layer, a linear layer."""
    layers = list(stack.inputs)
    for hidden in stack.hidden:
        layers += [hidden.layer, activation(-3 if hidden.on_grid else -1)]
    return nn.Sequential(*layers, linear(stack.hidden[-1].features, out_dim, generator))


Scales = tuple[Tensor, ...]


class Conditioned(nn.Module):
    """A stack whose hidden layers are scaled by a condition (multiplicative embedding, as in SFT-PG's toy network).

    ``net(x, cond)`` takes ``x`` (*batch, *shape) and ``cond`` (*c, cond_dim) where ``*c`` broadcasts against
    ``*batch``, and gives (*batch, out_dim): a condition shared by a whole batch is embedded once, not once per sample.
    ``net(x, cond, index)`` takes conditions (C, cond_dim), and for each sample which of them, ``index`` (*batch,).
    ``scales``: what `embed` gave for ``cond``, where it is known already.
    """

    def __init__(self, stack: Stack, out_dim: int, cond_dim: int, generator: torch.Generator) -> None:
        """Each hidden layer gets one scale per feature: per unit, or per channel of feature maps."""
        super().__init__()
        self.inputs = nn.Sequential(*stack.inputs) if stack.inputs else None
        self.hidden = nn.ModuleList(hidden.layer for hidden in stack.hidden)
        self.features = [hidden.features for hidden in stack.hidden]
        self.on_grid = [hidden.on_grid for hidden in stack.hidden]
        self.scales = mlp([cond_dim, max(1, self.features[-1] // 4), sum(self.features)], generator)
        self.out = linear(self.features[-1], out_dim, generator)

    def embed(self, cond: Tensor) -> Scales:
        """The scales of each hidden layer, (*c, features), for conditions (*c, cond_dim)."""
        return (1 + self.scales(cond)).split(self.features, dim=-1)

    def forward(self, x: Tensor, cond: Tensor, index: Tensor | None = None, scales: Scales | None = None) -> Tensor:
        """(*batch, out_dim); see the class."""
        x = x if self.inputs is None else self.inputs(x)
        scales = self.embed(cond) if scales is None else scales
        for layer, scale, on_grid in zip(self.hidden, scales, self.on_grid, strict=True):
            scale = scale if index is None else nn.functional.embedding(index, scale)
            x = nn.functional.silu(layer(x) * (scale[..., None, None] if on_grid else scale))
        return self.out(x)
