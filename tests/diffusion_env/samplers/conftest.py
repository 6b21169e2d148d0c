"""The three kinds of path, and a network that lives on one in its own coordinates: exact, and as strangers write it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion_env.samplers.schedules import NoiseSchedule


class PathNetwork(nn.Module):
    """Exact for equal isotropic Gaussians; it takes x_t itself, flat, with one time per sample.

    ``means``: (M, D). In alpha and sigma of the path, x_t | mode m ~ N(alpha means[m], (alpha std)^2 + sigma^2).
    """

    def __init__(self, means: Tensor, std: float, schedule: NoiseSchedule, prediction: str) -> None:
        super().__init__()
        self.means, self.std, self.schedule, self.prediction = means.double(), std, schedule, prediction
        self.shape = tuple(means.shape[1:])
        self.columns = torch.tensor(np.stack([schedule.alpha, schedule.sigma])).unsqueeze(-1)  # (2, T + 1, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        assert x.shape[1:] == self.shape and time.shape == x.shape[:1]
        alpha, sigma = self.columns[:, time.long()]  # (N, 1) each
        variance = (alpha * self.std) ** 2 + sigma**2
        gaps = x.double().unsqueeze(1) - alpha.unsqueeze(-1) * self.means  # (N, M, D)
        weights = (-0.5 * gaps.square().sum(-1) / variance).softmax(-1)
        eps = sigma * (weights.unsqueeze(-1) * gaps).sum(1) / variance
        x0 = (x.double() - sigma * eps) / alpha
        answers = {
            "epsilon": eps,
            "sample": x0,
            "v_prediction": (alpha * eps - sigma * x0) / torch.hypot(alpha, sigma),
            "flow": eps - x0,
        }
        return answers[self.prediction].float()


@pytest.fixture(scope="session")
def path_network() -> Callable[[Tensor, float, NoiseSchedule, str], PathNetwork]:
    return PathNetwork
