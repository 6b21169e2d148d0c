"""From a name, a path or a function to a critic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_env.checkpoints import SUFFIX, load_module, load_object
from diffusion_env.critics.base import Critic
from diffusion_env.critics.baseline import BaselineCritic
from diffusion_env.critics.energy import EnergyCritic
from diffusion_env.critics.frozen import FrozenCritic
from diffusion_env.critics.mmd import MMDCritic
from diffusion_env.critics.wasserstein import GradientPenaltyCritic, SpectralNormCritic, WeightClippingCritic

CriticLike = str | Path | Critic | Callable[[Tensor], Tensor]
"""What stands for a critic: its name, its path, itself, or a fixed reward function."""

FROZEN_PREFIX = FrozenCritic.name + ":"

CRITICS: dict[str, type[Critic]] = {
    critic.name: critic
    for critic in (
        EnergyCritic,  # Yoon et al. 2024, DxMI
        GradientPenaltyCritic,  # Gulrajani et al. 2017, one-sided as Petzka et al. 2018
        SpectralNormCritic,  # Miyato et al. 2018
        WeightClippingCritic,  # Arjovsky et al. 2017
        BaselineCritic,  # Fan & Lee 2023, SFT-PG (B)
        MMDCritic,  # Gretton et al. 2012
        FrozenCritic,
    )
}
"""The names that `make_critic` knows."""


def make_critic(critic: CriticLike, shape: Sequence[int], seed: int = 0) -> Critic:
    """A critic for events of `shape`.

    `critic` is a name in `CRITICS`, with weights from `seed`; a path to a saved critic (a `Path`, or a string
    that ends in .safetensors or starts with "frozen:"), which comes back frozen; a `Critic`, returned as it
    is; or a fixed reward function of events (*batch, *shape) to scores (*batch,).

    Raises ValueError for an unknown name or a critic of another shape, CheckpointError for an unreadable
    file.
    """
    made = _make(critic, shape, seed)
    if made.shape is not None and made.shape != tuple(shape):
        raise ValueError(
            f"The critic {critic if isinstance(critic, str | Path) else made.name!r} takes events of shape "
            f"{made.shape}, but the events here have shape {tuple(shape)}. Train one for this shape, for "
            "example make_critic('energy', shape), or use a data set of the critic's shape."
        )
    return made


def _make(critic: CriticLike, shape: Sequence[int], seed: int) -> Critic:
    if isinstance(critic, Critic):
        return critic
    if isinstance(critic, Path):
        return _frozen(critic)
    if not isinstance(critic, str):
        return FrozenCritic(critic, shape)
    if critic.startswith(FROZEN_PREFIX) or critic.endswith(SUFFIX):
        return _frozen(Path(critic.removeprefix(FROZEN_PREFIX)))
    if critic not in CRITICS or critic == FrozenCritic.name:
        raise ValueError(
            f"There is no critic {critic!r} to make from a name. Choose one of {', '.join(sorted(CRITICS))}, "
            f"where 'frozen' needs the path of a saved critic ('frozen:path', or a path ending in {SUFFIX}); "
            "or pass a Critic or a reward function."
        )
    return _from_config({"critic": critic, "shape": list(shape), "seed": seed})


def load_critic(path: str | Path, device: torch.device | str = "cpu") -> Critic:
    """The critic that `Critic.save` wrote, with its optimiser, so that training continues exactly.

    Raises CheckpointError when the file is missing, damaged, or not a critic.
    """
    state, header = load_object(path, "critic")
    critic = _from_config(header.config)
    load_module(critic, state, f"The critic of {path}")
    return critic.to(device)


def _frozen(path: Path) -> FrozenCritic:
    critic = load_critic(path)
    return critic if isinstance(critic, FrozenCritic) else FrozenCritic(critic)


def _from_config(config: dict[str, Any]) -> Critic:
    hyper_parameters = {key: value for key, value in config.items() if key != "critic"}
    if config["critic"] == FrozenCritic.name:
        return FrozenCritic(_from_config(config["reward"]))
    return CRITICS[config["critic"]](**hyper_parameters)
