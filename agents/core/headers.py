"""What the header of a saved algorithm may say, and which of it is believed.

A file that a stranger sends may name an environment, a data set, a network and a critic. Nothing is imported for it,
and a path that it names is read only if the user gives the path too: in ``env_kwargs``, by ``trust_paths=True``, or by
loading the folder of a run, whose config.json holds the user's own command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym

from diffusion_env.checkpoints import CheckpointError, Header, refuse_larger
from diffusion_env.critics import CRITICS
from diffusion_env.data.image_sets import IMAGE_SETS
from diffusion_env.data.named import DATASETS
from diffusion_env.denoisers.loading import shipped_names
from diffusion_env.fields import Count, Seed, from_json

Record = TypeVar("Record")


@dataclass(frozen=True)
class AgentRecord:
    """The header of an agent of `agents.core`, beside its name and its configuration."""

    env_id: str
    num_envs: Count
    env_kwargs: Mapping[str, Any]
    env_objects: tuple[str, ...]
    """Keywords of the environment that were objects."""
    seed: Seed
    ranks: Count = 1
    """Processes that trained it together."""


@dataclass(frozen=True)
class RunRecord:
    """The header of any other algorithm, beside its name and its changes of hyper-parameters."""

    task: Mapping[str, Any]
    task_objects: tuple[str, ...]
    """Fields of the task that were objects."""
    seed: Seed


def stored(kind: type[Record], extra: Mapping[str, Any], path: str | Path) -> Record:
    """The fields of ``kind`` in the header of ``path``; CheckpointError where one is missing or of another type."""
    names = {f.name for f in fields(kind)}  # type: ignore[arg-type]  # a dataclass
    try:
        return from_json(kind, {name: value for name, value in extra.items() if name in names}, f"the header of {path}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} was not written by an algorithm's `save`: {error}") from error


def check_env_id(env_id: str, path: str | Path) -> None:
    """CheckpointError unless an environment is registered under ``env_id`` already."""
    if env_id not in gym.registry:
        raise CheckpointError(
            f"{path} was trained in the environment {env_id!r}, which is not registered here, and a file never makes "
            "us import what it names. Import the package that registers it first, and give the id without 'module:'."
        )


def check_sizes(sizes: Any, state: Any, path: str | Path) -> None:
    """CheckpointError where ``sizes``, JSON of the header, ask for more than the tensors of ``state`` are.

    So no memory is taken for what a forged header promises.
    """
    try:
        refuse_larger(sizes, state)
    except ValueError as error:
        raise CheckpointError(f"The header of {path} does not fit what the file holds: {error}.") from error


def task_keywords(header: Header) -> Any:
    """Keywords of the environment, or fields of the task, in a header of either kind."""
    return header.extra.get("env_kwargs", header.extra.get("task"))


def named_paths(keywords: Any) -> dict[str, str]:
    """Keywords of an environment, or fields of a task, whose value is a path and none of our names."""
    if not isinstance(keywords, Mapping):
        return {}
    ours = {"dataset": {*DATASETS, *IMAGE_SETS}, "denoiser": set(shipped_names()), "critic": set(CRITICS)}
    values = {name: keywords.get(name) for name in ours}
    return {name: value for name, value in values.items() if isinstance(value, str) and value not in ours[name]}


def refuse_paths(keywords: Any, given: Mapping[str, Any] | None, path: str | Path) -> None:
    """CheckpointError where the header of ``path`` names a path that is not among the ``given`` keywords."""
    found = {name: value for name, value in named_paths(keywords).items() if name not in (given or {})}
    if found:
        again = ", ".join(f"{name}={value!r}" for name, value in found.items())
        raise CheckpointError(
            f"{path} names {again}, and a path that a file names is read only if you say so. If this is what you mean, "
            f"give it again, env_kwargs=dict({again}); or trust the file, load(path, trust_paths=True) or "
            "--trust-paths on the command line. For a run that you made, load_agent(FOLDER) or --checkpoint FOLDER "
            "needs neither."
        )
