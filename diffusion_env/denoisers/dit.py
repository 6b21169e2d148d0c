r"""The denoiser of images that costs least on a CPU: a small transformer on patches, kind "dit".

Letters: p side of a patch in pixels; n = (H / p) (W / p) patches; w the width. Each patch of C p^2 numbers becomes a
token of w numbers; blocks of attention and a perceptron follow; each token becomes a patch again. The training level
reaches a block by six vectors (w,): shift, scale and gate of its attention and of its perceptron (adaLN-Zero, Peebles &
Xie 2023, section 3.2). The gates and the last layer start at 0, so each block is the identity before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention, silu

from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.features import LevelFeatures
from diffusion_env.networks.layers import linear, mlp
from diffusion_env.samplers.denoiser import PathAt
from diffusion_env.samplers.schedules import NoiseSchedule

HEAD_DIM = 32
"""Numbers of a token that one attention head sees, where they divide the width."""
FEWEST_PATCHES = 4
"""Patches along the shorter side, where the image has as many pixels."""
LARGEST_PATCH = 4


def patch_side(shape: tuple[int, ...]) -> int:
    """p for images of ``shape`` (C, H, W): 4, 2 or 1 pixels, the largest that divides both sides and leaves 4 patches.

    Raises ValueError for what is no image.
    """
    if len(shape) != 3:
        raise ValueError(
            f"A patch transformer was asked for events of shape {tuple(shape)}, but it takes images (C, H, W). Choose "
            "kind 'mlp' for points."
        )
    sides, p = shape[1:], LARGEST_PATCH
    while p > 1 and any(side % p or side // p < FEWEST_PATCHES for side in sides):
        p //= 2
    return p


def number_of_weights(shape: tuple[int, ...], width: int, depth: int) -> int:
    """How many weights `DiTDenoiser` has, without making one; ValueError for a ``shape`` that is no image."""
    patch = patch_side(shape)
    numbers, patches = shape[0] * patch**2, math.prod(side // patch for side in shape[1:])
    block = 10 * width * (width + 1) + width * (8 * width + 5)  # modulation, qkv and out; then the perceptron
    level, modulation = width * (LevelFeatures.dim + 1) + width * (width + 1), 2 * width * (width + 1)
    ends = width * (numbers + 1) + numbers * (width + 1)
    return level + ends + patches * width + depth * block + modulation


class Block(nn.Module):
    """Attention and a perceptron of 4 ``width`` units, each shifted, scaled and gated by the level; see the file."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        """All linear layers are drawn by ``generator``; those that make the gates start at 0."""
        super().__init__()
        self.heads = width // math.gcd(HEAD_DIM, width)
        self.modulation = zeroed(linear(width, 6 * width, generator))
        self.qkv = linear(width, 3 * width, generator)
        self.out = linear(width, width, generator)
        self.perceptron = mlp([width, 4 * width, width], generator)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        """``tokens`` (N, n, w) and the embedded ``level`` (N, w) to (N, n, w)."""
        parts = self.modulation(silu(level)).unsqueeze(1).chunk(6, -1)  # each (N, 1, w)
        q, k, v = self.qkv(modulated(tokens, *parts[:2])).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2)  # (N, n, w)
        tokens = tokens + parts[2] * self.out(attended)
        answer: Tensor = tokens + parts[5] * self.perceptron(modulated(tokens, *parts[3:5]))
        return answer


def modulated(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """``tokens`` (N, n, w) normalised each, times 1 + ``scale``, plus ``shift``, both (N, 1, w)."""
    return torch.addcmul(shift, layer_norm(tokens, tokens.shape[-1:]), 1 + scale)


def zeroed(layer: nn.Linear) -> nn.Linear:
    """The layer, (*batch, in) -> (*batch, out), with weights and bias set to 0."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class DiTDenoiser(NetworkDenoiser):
    """A patch transformer for images of ``shape`` (C, H, W): x (N, C, H, W) and levels (N,) to ``output`` (N, C, H, W).

    ``width``: numbers of a token; ``depth``: blocks. 1.2 million weights at 128 and 4. Other arguments as in
    `NetworkDenoiser`. Raises ValueError for events that are no images.
    """

    kind = "dit"

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        width: int = 128,
        depth: int = 4,
        generator: torch.Generator | None = None,
        output: str = "v_prediction",
    ) -> None:
        super().__init__(shape, schedule, width, depth, generator, output)
        self.prediction, self.patch = self.output, patch_side(self.shape)
        channels, (h, w) = self.shape[0], (side // self.patch for side in self.shape[1:])
        self.grid, numbers = (h, w), channels * self.patch**2
        generator = generator or torch.Generator().manual_seed(0)
        self.path, self.features = PathAt(schedule), LevelFeatures()
        self.level = mlp([LevelFeatures.dim, width, width], generator)
        self.embed = linear(numbers, width, generator)
        self.positions = nn.Parameter(0.02 * torch.randn(h * w, width, generator=generator))
        self.blocks = nn.ModuleList(Block(width, generator) for _ in range(depth))
        self.modulation = zeroed(linear(width, 2 * width, generator))
        self.out = zeroed(linear(width, numbers, generator))

    @classmethod
    def default_size(cls, shape: tuple[int, ...]) -> tuple[int, int]:
        """128 and 4, for any ``shape``."""
        return 128, 4

    @classmethod
    def from_config(cls, config: Any, weights: Mapping[str, Tensor]) -> Self:
        """The network of ``config``; ValueError, before memory is taken, where it has more than ``weights`` hold.

        ``weights``: any shape.
        """
        needed = number_of_weights(config.shape, config.width, config.depth)
        held = sum(weight.numel() for weight in weights.values())
        if needed > held:
            raise ValueError(
                f"a patch transformer of width {config.width} and depth {config.depth} for images of shape "
                f"{tuple(config.shape)} has {needed:,} weights, more than the {held:,} numbers of the file"
            )
        return super().from_config(config, weights)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """What ``output`` names, (N, C, H, W); see the class."""
        (h, w), p = self.grid, self.patch
        patches = x.unflatten(-1, (w, p)).unflatten(-3, (h, p)).permute(0, 2, 4, 1, 3, 5)  # (N, h, w, C, p, p)
        tokens = self.embed(patches.flatten(3).flatten(1, 2)) + self.positions  # (N, n, width)
        level = self.level(self.features(self.path.log_snr(time)))  # (N, width)
        for block in self.blocks:
            tokens = block(tokens, level)
        shift, scale = self.modulation(silu(level)).unsqueeze(1).chunk(2, -1)
        patches = self.out(modulated(tokens, shift, scale)).unflatten(-1, (-1, p, p)).unflatten(1, (h, w))
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(x.shape)
