"""The energy critic: scores kept small on data and on samples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.networks.layers import FourierFeatures, mlp


class EnergyCritic(TrainedCritic):
    """regulariser = gamma * (mean f(real)^2 + mean f(fake)^2), as DxMI (Yoon et al., NeurIPS 2024).

    At the optimum f = (q - p) / (2 gamma (q + p)), so |f| <= 1 / (2 gamma): the IPM over this ball of L2 is a
    chi-squared (Fisher) type of distance, bounded in value but not in slope.

    The network sees the event through random Fourier features (Tancik et al. 2020): a plain MLP learns low frequencies
    first and in thousands of updates does not notice a sample that lies between two arms of the data.
    """

    name = "energy"
    # Little momentum, as in adversarial training since DCGAN: with Adam's usual 0.9 sampler and critic circle.
    adam_betas = (0.5, 0.99)

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        gamma: float = 0.3,
        width: int = 256,
        depth: int = 1,
        learning_rate: float = 1e-3,
        num_features: int = 64,
        frequency: float = 4.0,
    ) -> None:
        """``num_features`` random directions; ``frequency``: radians per unit of the event's root mean square."""
        self.gamma, self.num_features, self.frequency = gamma, num_features, frequency
        own = {"gamma": gamma, "num_features": num_features, "frequency": frequency}
        super().__init__(shape, seed, width, depth, learning_rate, own)

    def build_network(self, generator: torch.Generator) -> nn.Module:
        """Fourier features and an MLP on them."""
        assert self.shape is not None
        features = FourierFeatures(math.prod(self.shape), self.num_features, self.frequency, generator)
        return nn.Sequential(features, mlp([features.out_dim, *[self.width] * self.depth, 1], generator))

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """The mean square of the scores of each batch, times gamma."""
        return self.gamma * (f_real.square().mean() + f_fake.square().mean())
