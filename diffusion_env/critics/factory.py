"""From a name, a path or a function to a critic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from diffusion_env.critics.base import Critic
from diffusion_env.critics.energy import EnergyCritic

CRITICS: dict[str, type[Critic]] = {"energy": EnergyCritic}


def make_critic(critic: str | Path | Critic, shape: Sequence[int], seed: int = 0) -> Critic:
    assert isinstance(critic, str)
    return CRITICS[critic](shape, seed)
