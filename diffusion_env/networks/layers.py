"""Small networks whose initial weights come from a generator, never from the global seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


def linear(in_dim: int, out_dim: int, generator: torch.Generator) -> nn.Linear:
    """An ``nn.Linear`` with torch's default law of initial weights, drawn from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, in_dim, out_dim)
    bound = 1.0 / math.sqrt(in_dim)
    nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
    nn.init.uniform_(layer.bias, -bound, bound, generator=generator)
    return layer


def mlp(sizes: Sequence[int], generator: torch.Generator, activation: type[nn.Module] = nn.SiLU) -> nn.Sequential:
    """Multi-layer perceptron ``sizes[0] -> ... -> sizes[-1]``, no activation after the last layer."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [linear(n_in, n_out, generator), activation()]
    return nn.Sequential(*layers[:-1])


class FourierFeatures(nn.Module):
    """x and the sines and cosines of ``num_features`` random projections of it (Tancik et al. 2020, section 3).

    ``frequency``: standard deviation of a phase where x has root mean square 1. (*batch, dim) -> (*batch, out_dim).
    """

    directions: Tensor

    def __init__(self, dim: int, num_features: int, frequency: float, generator: torch.Generator) -> None:
        super().__init__()
        self.out_dim = dim + 2 * num_features
        directions = torch.randn(dim, num_features, generator=generator) * (frequency / math.sqrt(dim))
        self.register_buffer("directions", directions)

    def forward(self, x: Tensor) -> Tensor:
        """The features; see the class."""
        phases = x @ self.directions
        return torch.cat([x, phases.sin(), phases.cos()], -1)


class ConditionedMLP(nn.Module):
    """MLP whose hidden layers are scaled by a condition (multiplicative embedding, as in SFT-PG's toy net).

    ``net(x, cond)`` takes ``x`` of shape (*batch, in_dim) and ``cond`` of shape (*c, cond_dim) where ``*c``
    broadcasts against ``*batch``: a condition shared by a whole batch is embedded once, not once per sample.
    ``net(x, cond, index)`` takes conditions (C, cond_dim), and for each sample which of them, ``index`` (*batch,).
    """

    def __init__(
        self, in_dim: int, out_dim: int, cond_dim: int, width: int, depth: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        widths = [in_dim] + [width] * depth
        self.hidden = nn.ModuleList(linear(a, b, generator) for a, b in pairwise(widths))
        self.scales = mlp([cond_dim, width // 4, width * depth], generator)
        self.out = linear(width, out_dim, generator)

    def forward(self, x: Tensor, cond: Tensor, index: Tensor | None = None) -> Tensor:
        """(*batch, out_dim); see the class."""
        for layer, scale in zip(self.hidden, (1 + self.scales(cond)).chunk(len(self.hidden), dim=-1), strict=True):
            x = nn.functional.silu(layer(x) * (scale if index is None else nn.functional.embedding(index, scale)))
        return self.out(x)
