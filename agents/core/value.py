"""The value function V(x[k], k) beside the policy."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from diffusion_env.networks.layers import ConditionedMLP


class ValueNet(nn.Module):
    """V(x[k], k): the critic's score that the sampler will reach from x[k]; one network, conditioned on one-hot k."""

    def __init__(
        self, shape: tuple[int, ...], num_steps: int, width: int, depth: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.event_dims, self.num_steps = len(shape), num_steps
        self.net = ConditionedMLP(math.prod(shape), 1, num_steps, width, depth, generator)

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        """(*batch,) from x (*batch, *shape) and rows ``k`` that broadcast to (*batch,)."""
        rows = nn.functional.one_hot(k, self.num_steps).to(x.dtype)
        return self.net(x.flatten(-self.event_dims), rows).squeeze(-1)
