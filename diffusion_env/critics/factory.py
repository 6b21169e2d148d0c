"""From a name, a path or a function to a critic."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffusion_env.checkpoints import SUFFIX, CheckpointError, load_module, load_object, numbers_in, refuse_larger
from diffusion_env.critics.base import Critic, checked_shape
from diffusion_env.critics.baseline import BaselineCritic
from diffusion_env.critics.energy import EnergyCritic
from diffusion_env.critics.frozen import FrozenCritic
from diffusion_env.critics.keywords import FROM_THE_TASK, checked_keywords
from diffusion_env.critics.mmd import MMDCritic
from diffusion_env.critics.wasserstein import GradientPenaltyCritic, SpectralNormCritic, WeightClippingCritic
from diffusion_env.fields import Seed, checked
from diffusion_env.networks.layers import weights_at_most

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
"""The names that `make_critic` knows. A class of your own that is added here works wherever a name is taken: its
constructor takes ``shape`` and ``seed``, and keywords of which `Critic.config` holds the values."""


def make_critic(
    critic: CriticLike, shape: Sequence[int], seed: int = 0, kwargs: Mapping[str, Any] | None = None
) -> Critic:
    """A critic for events of `shape`.

    `critic` is a name in `CRITICS`, with weights from `seed` and the keywords `kwargs` of its constructor (for example
    gamma, width, depth, body); a path to a saved critic (a `Path`, or a string that ends in .safetensors or starts with
    "frozen:"), which comes back frozen; a `Critic`, returned as it is; or a fixed reward function of events
    (*batch, *shape) to scores (*batch,).

    Raises TypeError for what is none of these; ValueError for an unknown name, a critic of another shape, a keyword
    that the named critic does not take, or keywords for what is no name; CheckpointError for an unreadable file.
    """
    shape, seed = checked_shape(shape), checked(seed, Seed, "seed")
    made = _make(critic, shape, seed, kwargs or {})
    if made.shape is not None and made.shape != shape:
        raise ValueError(
            f"The critic {critic if isinstance(critic, str | Path) else made.name!r} takes events of shape "
            f"{made.shape}, but the events here have shape {shape}. Train one for this shape, for "
            "example make_critic('energy', shape), or use a data set of the critic's shape."
        )
    return made


def _make(critic: CriticLike, shape: tuple[int, ...], seed: int, kwargs: Mapping[str, Any]) -> Critic:
    if isinstance(critic, str) and critic in CRITICS and critic != FrozenCritic.name:
        return _build(CRITICS[critic], {"shape": shape, "seed": seed}, kwargs, "critic_kwargs")
    if kwargs:
        given = repr(critic) if isinstance(critic, str | Path) else f"of type {type(critic).__name__}"
        raise ValueError(
            f"critic_kwargs={dict(kwargs)!r} were given with the critic {given}, but keywords build a critic from "
            f"its name alone: one of {', '.join(_names())}. A Critic, a saved critic or a reward function is already "
            "built: leave critic_kwargs out, or give a name."
        )
    if isinstance(critic, Critic):
        return critic
    if isinstance(critic, Path):
        return _frozen(critic)
    if not isinstance(critic, str):
        if not callable(critic) or isinstance(critic, type):
            raise TypeError(
                f"A critic is a name, a path, a Critic or a reward function of events (*batch, *shape); received "
                f"{critic if isinstance(critic, type) else type(critic).__name__}. Names: {', '.join(_names())}. Of a "
                "class make an instance first."
            )
        return FrozenCritic(critic, shape)
    if (critic.removeprefix(FROZEN_PREFIX) and critic.startswith(FROZEN_PREFIX)) or critic.endswith(SUFFIX):
        return _frozen(Path(critic.removeprefix(FROZEN_PREFIX)))
    raise ValueError(
        f"There is no critic {critic!r} to make from a name. Choose one of {', '.join(sorted(CRITICS))}, "
        f"where 'frozen' needs the path of a saved critic ('frozen:path', or a path ending in {SUFFIX}); "
        "or pass a Critic or a reward function."
    )


def _build(kind: type[Critic], task: Mapping[str, Any], kwargs: Mapping[str, Any], given_as: str) -> Critic:
    constructor: Callable[..., Critic] = kind
    return constructor(**task, **checked_keywords(kind, kwargs, given_as))


def _names() -> list[str]:
    return sorted(set(CRITICS) - {FrozenCritic.name})


def load_critic(path: str | Path, device: torch.device | str = "cpu", critics: Iterable[type[Critic]] = ()) -> Critic:
    """The critic that `Critic.save` wrote, with its state, so that training continues.

    ``critics``: classes of your own that the file may hold, beside those in `CRITICS`; a name in a file is looked up
    among them and imports nothing. Raises CheckpointError when the file is missing, damaged, not a critic, or of
    another class.
    """
    state, header = load_object(path, "critic")
    critic = _from_header(header.name, header.config, path, CRITICS | {own.name: own for own in critics}, state)
    load_module(critic, state, f"The critic of {path}")
    return critic.to(device)


def _frozen(path: Path) -> FrozenCritic:
    critic = load_critic(path)
    return critic if isinstance(critic, FrozenCritic) else FrozenCritic(critic)


def _from_header(
    name: str, config: Mapping[str, Any], path: str | Path, known: Mapping[str, type[Critic]], state: Any
) -> Critic:
    """A critic with fresh weights, from a name that is looked up in ``known``; no larger than the file's ``state``."""
    if name == FrozenCritic.name:
        inner = config.get("config")
        if isinstance(inner, dict) and config.get("name") != FrozenCritic.name:
            return FrozenCritic(_from_header(str(config.get("name")), inner, path, known, state))
        raise CheckpointError(f"The header of {path} names no critic inside the frozen one. Save the critic again.")
    if name not in known:
        raise CheckpointError(
            f"{path} holds a critic {name!r}, which is none of {', '.join(_names())}. If the class is yours, give it "
            f"in this call, load_critic(path, critics=[YourCritic]), or add it first: "
            f"diffusion_env.critics.CRITICS[{name!r}] = YourCritic."
        )
    try:
        refuse_larger(config, state)
        task = {key: config[key] for key in FROM_THE_TASK if key in config}
        if "shape" in task:
            task["shape"] = checked_shape(task["shape"])
        with weights_at_most(numbers_in(state)):
            return _build(known[name], task, {key: config[key] for key in config if key not in task}, "config")
    except Exception as error:  # what is wrong with a forged header shows in many ways
        raise CheckpointError(f"The header of {path} does not build the critic {name!r}: {error}") from error
