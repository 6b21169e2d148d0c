"""The JSON header of a saved agent."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from diffusion_env.checkpoints import CheckpointError, load_checkpoint

_REPORTED = ("torch", "gymnasium", "stable-baselines3", "numpy", "scipy", "scikit-learn", "safetensors", "pot")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _REPORTED}}


def agent_metadata(agent: Any) -> dict[str, Any]:
    """What is needed to build the agent again, and what it was made with."""
    kept = {key: value for key, value in agent.env_kwargs.items() if _is_json(value)}
    kept |= {key: str(value) for key, value in agent.env_kwargs.items() if isinstance(value, Path)}
    return {
        "agent": agent.name,
        "config": asdict(agent.config),
        "env_id": agent.env_id,
        "num_envs": agent.num_envs,
        "env_kwargs": kept,
        "env_objects": sorted(set(agent.env_kwargs) - set(kept)),
        "seed": agent.seed,
        "versions": versions(),
    }


def read_agent(path: str | Path, name: str, device: torch.device | str) -> tuple[Any, dict[str, Any]]:
    """State and header of the agent called ``name`` saved at ``path``; CheckpointError for any other file."""
    state, metadata = load_checkpoint(path, device)
    if metadata.get("agent") != name:
        raise CheckpointError(
            f"{path} holds {metadata.get('agent', 'no agent')!r}, but a {name!r} was to be loaded. Load it with the "
            "class that saved it."
        )
    return state, metadata


def saved_env_kwargs(metadata: Mapping[str, Any], given: Mapping[str, Any] | None, path: str | Path) -> dict[str, Any]:
    """The saved keywords with ``given`` over them; CheckpointError if one that was an object is missing."""
    missing = sorted(set(metadata["env_objects"]) - set(given or {}))
    if missing:
        raise CheckpointError(
            f"{path} was trained with env_kwargs that are objects and could not be saved: {missing}. Pass them again: "
            f"load(path, env_kwargs=dict({missing[0]}=...))."
        )
    return {**metadata["env_kwargs"], **(given or {})}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
