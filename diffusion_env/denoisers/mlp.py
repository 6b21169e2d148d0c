r"""The denoiser of points and small images: a multi-layer perceptron, kind "mlp".

Letters: x = alpha x_0 + sigma eps in the coordinates of the step table, where alpha^2 + sigma^2 = 1. Unless another
output is named, the layers put out v = alpha eps - sigma x_0 (Salimans & Ho 2022, section 4), and the network answers
eps = alpha v + sigma x. At high noise a table multiplies eps by 1 / alpha >> 1; there the part sigma x cancels exactly,
and the layers need not learn it to many digits.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.features import LevelFeatures
from diffusion_env.networks.bodies import make_conditioned_body
from diffusion_env.networks.layers import Scales
from diffusion_env.samplers.denoiser import PathAt, unit_columns
from diffusion_env.samplers.predictions import to_epsilon
from diffusion_env.samplers.schedules import NoiseSchedule


class Level(NamedTuple):
    """What `EpsMLP` knows of training levels of any shape (*c,); no weight has a part in it but in ``scales``."""

    features: Tensor  # (*c, LevelFeatures.dim)
    alpha: Tensor  # (*c, 1)
    sigma: Tensor  # (*c, 1)
    scales: Scales | None = None  # of each hidden layer, (*c, width); None where they are not computed yet


class EpsMLP(NetworkDenoiser):
    """Time-conditioned epsilon network for events of any ``shape``; about 60,000 weights for a point in the plane.

    ``time`` is the training clock (levels 1 ... T, fractions allowed), so one network serves every K. Arguments as in
    `NetworkDenoiser`.
    """

    kind = "mlp"
    broadcasts_time = True

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        width: int = 128,
        depth: int = 3,
        generator: torch.Generator | None = None,
        output: str = "v_prediction",
    ) -> None:
        super().__init__(shape, schedule, width, depth, generator, output)
        dim = math.prod(shape)
        generator = generator or torch.Generator().manual_seed(0)
        sizes: dict[str, Any] = {"body": "mlp", "width": width, "depth": depth}
        self.net = make_conditioned_body((dim,), dim, LevelFeatures.dim, generator, **sizes)
        self.path = PathAt(schedule)
        self.features = LevelFeatures()

    def forward(self, x: Tensor, time: Tensor, k: Tensor | None = None) -> Tensor:
        """eps (*batch, *shape); see `Denoiser`. With ``k``, as `at_steps`."""
        return self.at_level(x, self.level(time, k), k)

    @property
    def compiled_part(self) -> nn.Module:
        """What torch.compile is asked to compile: all that has weights."""
        return self.net

    def level(self, time: Tensor, k: Tensor | None = None) -> Level:
        """What is known of the levels ``time`` (*c,); alpha and sigma of those at ``k`` alone."""
        log_snr = self.path.log_snr(time)
        alpha, sigma = unit_columns(log_snr if k is None else log_snr[k])
        return Level(self.features(log_snr), alpha.unsqueeze(-1), sigma.unsqueeze(-1))

    def embedded(self, level: Level) -> Level:
        """``level`` with what the weights of now make of it."""
        return level._replace(scales=self.net.embed(level.features))

    def at_level(self, x: Tensor, level: Level, k: Tensor | None = None) -> Tensor:
        """eps (*batch, *shape) of ``x`` (*batch, *shape) at ``level``, which `level` gave for the same ``k``."""
        flat = x.flatten(-len(self.shape))
        output = self.net(flat, level.features, k, level.scales)
        return to_epsilon(self.output, output, flat, level.alpha, level.sigma).view_as(x)

    def at_steps(self, x: Tensor, times: Tensor, k: Tensor) -> Tensor:
        """eps (*batch, *shape) at ``times[k]``, each of ``times`` (K,) embedded once; ``k`` (*batch,) integers."""
        return self(x, times, k)
