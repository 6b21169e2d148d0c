"""The exact denoiser of a Gaussian mixture."""

from __future__ import annotations

from torch import Tensor, nn

from diffusion_env.samplers.denoiser import PathAt
from diffusion_env.samplers.schedules import NoiseSchedule


class MixtureDenoiser(nn.Module):
    """The exact eps of data that are a mixture of equal isotropic Gaussians, on any schedule: the oracle of the tests.

    ``means``: (M, *shape), network units; ``std``: their common standard deviation. Source: Bayes' rule on
    x | mode m ~ N(sqrt(a) means[m], (a std^2 + 1 - a) I), a = alpha_bar, in the table's coordinates.
    """

    scaled_input = broadcasts_time = True

    def __init__(self, means: Tensor, std: float, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.shape, self.schedule, self.std = tuple(means.shape[1:]), schedule, std
        self.register_buffer("means", means.flatten(1), persistent=False)
        self.path = PathAt(schedule)

    means: Tensor

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape); see `Denoiser`."""
        log_snr = self.path.log_snr(time).unsqueeze(-1)
        a, b = log_snr.sigmoid(), (-log_snr).sigmoid()
        variance = a * self.std**2 + b
        flat = x.flatten(-len(self.shape))
        gaps = flat.unsqueeze(-2) - a.sqrt().unsqueeze(-1) * self.means  # (*batch, M, D)
        weights = (-0.5 * gaps.square().sum(-1) / variance).softmax(-1)  # responsibilities
        mean_gap = (weights.unsqueeze(-1) * gaps).sum(-2)
        return (b.sqrt() * mean_gap / variance).view_as(x)  # eps = -sqrt(1 - a) * score
