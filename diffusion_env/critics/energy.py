"""The energy critic: scores kept small on data and on samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor

from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.fields import Bounds, Depth, Positive, Weight, Width
from diffusion_env.networks.layers import Fourier


class EnergyCritic(TrainedCritic):
    """regulariser = gamma * (mean f(real)^2 + mean f(fake)^2), as DxMI (Yoon et al., NeurIPS 2024).

    At the optimum f = (q - p) / (2 gamma (q + p)), so |f| <= 1 / (2 gamma): the IPM over this ball of L2 is a
    chi-squared (Fisher) type of distance, bounded in value but not in slope.

    ``slope_penalty`` is the weight of the zero-centred gradient penalty on data and on samples, with which the game of
    sampler and critic converges (Mescheder et al., ICML 2018; both sides: Huang et al., NeurIPS 2024). It helps where
    the samples of few steps miss modes of the data, and blurs what f sees of fine detail.

    The body sees the event through random Fourier features (Tancik et al. 2020): a multi-layer perceptron learns low
    frequencies first, and in thousands of updates does not notice a sample that lies between two arms of the data. The
    small kernels of a convolutional body see fine detail as it is, so there no features are added unless you ask.
    """

    name = "energy"
    # Little momentum, as in adversarial training since DCGAN: with Adam's usual 0.9 sampler and critic oscillate.
    adam_betas = (0.5, 0.99)

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        gamma: Weight = 0.3,
        slope_penalty: Weight | None = None,
        width: Width = 256,
        depth: Depth = 1,
        learning_rate: Weight = 1e-3,
        num_features: Annotated[int, Bounds(0)] | None = None,
        frequency: Positive = 4.0,
        body: str | None = None,
    ) -> None:
        """``slope_penalty``: weight of the mean squared slope of f on data and on samples, see the class; None is 0,
        and an agent may set its own.
        ``num_features`` random directions, None for the body's own number (64 for "mlp", 0 for "conv");
        ``frequency``: radians per unit of the event's root mean square."""
        self.gamma, self.fourier = gamma, Fourier(num_features, frequency)
        self.slope_penalty, self._slope_penalty_is_open = slope_penalty or 0.0, slope_penalty is None
        own = {"gamma": gamma, "slope_penalty": slope_penalty, "num_features": num_features, "frequency": frequency}
        super().__init__(shape, seed, width, depth, learning_rate, body, own)

    def set_slope_penalty(self, weight: float) -> None:
        """As `Critic.set_slope_penalty`: nothing changes where the constructor was given one."""
        if self._slope_penalty_is_open:
            self.slope_penalty = weight

    def reward(self, x: Tensor) -> Tensor:
        """f + gamma f^2, (*batch,) of events x (*batch, *shape); the slope penalty's part, which is small, is left out.

        The distance is D(p) = max over f of E_q f - E_p f - gamma (E_q f^2 + E_p f^2), with p the samples and q the
        data. At the maximum only the terms that hold p itself count: dD / dp(x) = - f(x) - gamma f(x)^2.
        """
        scores = self(x)
        return scores + self.gamma * scores.square()

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """gamma times the mean square of the scores of each batch: of f_real (N,) and f_fake (M,) a scalar."""
        return self.gamma * (f_real.square().mean() + f_fake.square().mean())
