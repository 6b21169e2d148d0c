"""The energy critic: scores kept small on data and on samples."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from diffusion_env.critics.trained import TrainedCritic


class EnergyCritic(TrainedCritic):
    """regulariser = gamma * (mean f(real)^2 + mean f(fake)^2), as DxMI (Yoon et al., NeurIPS 2024).

    At the optimum f = (q - p) / (2 gamma (q + p)), so |f| <= 1 / (2 gamma): the IPM over this ball of L2 is a
    chi-squared (Fisher) type of distance, bounded in value but not in slope.
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
    ) -> None:
        super().__init__(shape, seed, width, depth, learning_rate, {"gamma": gamma})
        self.gamma = gamma

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """The mean square of the scores of each batch, times gamma."""
        return self.gamma * (f_real.square().mean() + f_fake.square().mean())
