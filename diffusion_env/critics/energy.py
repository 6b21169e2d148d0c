"""The energy critic: scores kept small on data and on samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffusion_env.critics.trained import TrainedCritic


class EnergyCritic(TrainedCritic):
    """regulariser = gamma * (mean f(real)^2 + mean f(fake)^2), as DxMI (Yoon et al., NeurIPS 2024).

    At the optimum f = (q - p) / (2 gamma (q + p)), so |f| <= 1 / (2 gamma): the IPM over this ball of L2 is a
    chi-squared (Fisher) type of distance, bounded in value but not in slope.

    ``frequency`` multiplies the initial weights of the first layer: f starts with structure on a scale of
    1 / frequency, and sees sooner that a sample lies between two arms of the data (MLPs learn low frequencies first).
    """

    name = "energy"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        gamma: float = 0.3,
        width: int = 256,
        depth: int = 2,
        learning_rate: float = 1e-3,
        frequency: float = 4.0,
    ) -> None:
        self.gamma, self.frequency = gamma, frequency
        super().__init__(shape, seed, width, depth, learning_rate, {"gamma": gamma, "frequency": frequency})

    def build_network(self, generator: torch.Generator) -> nn.Module:
        """An MLP whose first layer starts ``frequency`` times as steep."""
        network = super().build_network(generator)
        first = next(module for module in network.modules() if isinstance(module, nn.Linear))
        with torch.no_grad():
            first.weight.mul_(self.frequency)
            first.bias.mul_(self.frequency)
        return network

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """The mean square of the scores of each batch, times gamma."""
        return self.gamma * (f_real.square().mean() + f_fake.square().mean())
