"""What a critic gives the environment, checked: scores of events, rewards made of them, the numbers of an update.

A user's critic or reward function can give anything. Each refusal names it, so that nothing else is blamed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffusion_env.critics import Critic
from diffusion_env.critics.frozen import critic_title

REPORTED = ("critic_loss", "ipm", "grad_norm")
"""What every update of a critic reports of its loss; see `Critic.update`."""


def checked_scores(critic: Critic, x: Tensor) -> Tensor:
    """The critic's scores (N,) of events ``x`` (N, *shape), float32; TypeError or ValueError where it gives others."""
    scores = critic(x)
    if not isinstance(scores, Tensor):
        raise TypeError(
            f"{critic_title(critic)} gave a {type(scores).__name__} for events of shape {tuple(x.shape)}, but it must "
            f"give a tensor of shape ({len(x)},), one score per event. Compute it with torch."
        )
    if scores.shape != x.shape[:1]:
        raise ValueError(
            f"{critic_title(critic)} gave scores of shape {tuple(scores.shape)} for events of shape {tuple(x.shape)}, "
            f"but it must give one score per event, of shape ({len(x)},). Reduce over the dimensions of the event only."
        )
    return scores.float()


def check_finite_reward(critic: Critic, reward: Tensor) -> None:
    """FloatingPointError that names the critic unless all rewards (B,) are finite."""
    if not math.isfinite(reward.sum().item()) and not math.isfinite(reward.abs().max()):
        raise FloatingPointError(
            f"{critic_title(critic)} gave NaN or infinity for finished samples or for data, which were finite; every "
            "score must be. A critic that learns has most likely diverged: lower its learning rate. A reward function "
            "must be defined everywhere, also far from the data."
        )


def checked_metrics(critic: Critic, metrics: Any) -> dict[str, float]:
    """What an update of the critic reported; FloatingPointError where its loss, gap or gradient is not finite."""
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"{critic_title(critic)} gave a {type(metrics).__name__} from update(), but it must give a dict of numbers "
            'with at least "critic_loss", "ipm" and "grad_norm".'
        )
    bad = {name: metrics[name] for name in REPORTED if name in metrics and not math.isfinite(metrics[name])}
    if bad:
        raise FloatingPointError(
            f"{critic_title(critic)} reported {', '.join(f'{name} = {value}' for name, value in bad.items())} from "
            "update(); every term must be finite. Lower its learning rate, or strengthen what keeps its scores bounded."
        )
    return dict(metrics)
