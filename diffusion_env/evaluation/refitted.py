"""The IPM of a critic that is trained anew against a finished sampler, until its gap on unseen points stops rising.

The critic that trained a sampler may score the sampler's errors as data, and a critic that is trained for too few
steps does not find them yet: thin noise around the data takes an energy critic several hundred steps to notice.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from diffusion_env.critics import Critic
from diffusion_env.seeds import stream

BATCH = 256
ROUND_STEPS = 50
PATIENCE_STEPS = 1_000
MAX_STEPS = 5_000
MIN_REFIT_POINTS = 8


class Refit(NamedTuple):
    """What a new critic found."""

    gap: float
    """mean f(data) - mean f(samples) on points that neither trained f nor chose it, in the critic's units."""
    num_steps: int
    """Steps of the critic until its gap stopped rising, `PATIENCE_STEPS` without a new best among them."""


def refitted_ipm(
    critic: Critic,
    samples: Tensor,
    data: Tensor,
    seed: int,
    patience_steps: int = PATIENCE_STEPS,
    max_steps: int = MAX_STEPS,
) -> Refit:
    """Train ``critic``, new and on the points' device, on samples (N, *shape) against data (M, *shape), network units.

    Half of each side trains it, a quarter says when to stop (and which of its states is the best), and the last quarter
    gives the gap. Points must be in random order.

    Raises:
        ValueError: fewer than 8 points on a side.
    """
    if min(len(samples), len(data)) < MIN_REFIT_POINTS:
        raise ValueError(
            f"A critic was to be trained anew on {len(samples)} samples and {len(data)} data points; each side is cut "
            f"into three parts and needs at least {MIN_REFIT_POINTS}."
        )
    (fake, fake_stop, fake_judge), (real, real_stop, real_judge) = _parts(samples), _parts(data)
    draws = stream(seed, "evaluation critic", samples.device)
    best, best_state, best_step, step = -float("inf"), copy.deepcopy(critic.state_dict()), 0, 0
    while step < max_steps and step - best_step < patience_steps:
        steps = min(ROUND_STEPS, max_steps - step)
        for _ in range(steps):
            critic.update(_batch(real, draws), _batch(fake, draws))
        step += steps
        gap = critic.distance(real_stop, fake_stop)
        if gap > best:
            best, best_state, best_step = gap, copy.deepcopy(critic.state_dict()), step
    critic.load_state_dict(best_state)
    return Refit(critic.distance(real_judge, fake_judge), step)


def _parts(points: Tensor) -> tuple[Tensor, ...]:
    half, quarter = len(points) // 2, len(points) // 4
    return points.split([half, quarter, len(points) - half - quarter])


def _batch(points: Tensor, draws: torch.Generator) -> Tensor:
    return points[torch.randint(len(points), (BATCH,), generator=draws, device=points.device)]
