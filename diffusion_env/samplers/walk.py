"""The one loop that walks a step table from noise to data."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from diffusion_env.samplers.denoiser import Denoiser, as_denoiser
from diffusion_env.samplers.tables import StepTable


def walk(table: StepTable, denoiser: Denoiser, x: Tensor, generator: torch.Generator | None = None) -> Iterator[Tensor]:
    """Yield x[0], x[1], ..., x[K], each (*batch, *shape), started at ``x``; steps with std 0 draw no noise.

    States are in the table's coordinates, x_t / sqrt(alpha_t^2 + sigma_t^2): x[K] is in network units on every path.
    ``denoiser``: any network, see `as_denoiser`, on the device of ``x``.
    """
    yield x
    denoiser, event_dims = as_denoiser(denoiser, x.device), len(denoiser.shape)
    for k in range(table.num_steps):
        step = table.law(k, x, denoiser(x, table.time[k]), event_dims)
        x = step.sample(generator) if table.noisy_rows[k] else step.mean
        yield x


@torch.no_grad()
def sample(table: StepTable, denoiser: Denoiser, n: int, generator: torch.Generator) -> Tensor:
    """n samples x[K] (n, *shape) in network units, started at x[0] ~ N(0, I), on the generator's device."""
    x = torch.randn((n, *denoiser.shape), generator=generator, device=generator.device)
    for state in walk(table, denoiser, x, generator):
        x = state
    return x
