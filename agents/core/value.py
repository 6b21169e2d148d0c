"""The value function V(x[k], k) beside the policy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffusion_env.networks.bodies import make_conditioned_body


class ValueNet(nn.Module):
    """V(x[k], k): the critic's score that the sampler will reach from x[k]; one network, conditioned on one-hot k."""

    def __init__(
        self,
        shape: tuple[int, ...],
        num_steps: int,
        width: int,
        depth: int,
        generator: torch.Generator,
        body: str | None = None,
    ) -> None:
        """``body``: a name in `diffusion_env.networks.bodies.BODIES`; None chooses by ``shape``, that of one event."""
        super().__init__()
        self.num_steps = num_steps
        self.net = make_conditioned_body(shape, 1, num_steps, generator, body=body, width=width, depth=depth)

    def forward(self, x: Tensor, k: Tensor) -> Tensor:
        """(*batch,) from x (*batch, *shape) and steps ``k`` that broadcast to (*batch,)."""
        steps = nn.functional.one_hot(k, self.num_steps).to(x.dtype)
        return self.net(x, steps).squeeze(-1)
