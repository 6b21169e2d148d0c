"""What a saved agent holds: its state, and the JSON header it is built again from."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from diffusion_env.checkpoints import CheckpointError, Header, load_object

_REPORTED = ("torch", "gymnasium", "stable-baselines3", "numpy", "scipy", "scikit-learn", "safetensors", "pot")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _REPORTED}}


def agent_header(agent: Any) -> Header:
    """What is needed to build the agent again, and what it was made with."""
    kept = {key: value for key, value in agent.env_kwargs.items() if _is_json(value)}
    kept |= {key: str(value) for key, value in agent.env_kwargs.items() if isinstance(value, Path)}
    extra = {
        "env_id": agent.env_id,
        "num_envs": agent.num_envs,
        "env_kwargs": kept,
        "env_objects": sorted(set(agent.env_kwargs) - set(kept)),
        "seed": agent.seed,
        "versions": versions(),
    }
    return Header("agent", agent.name, asdict(agent.config), extra)


def agent_state(agent: Any) -> dict[str, Any]:
    """Everything that a bit-exact resume needs."""
    return {
        "algorithm": agent.state_dict(),
        "critic": agent.envs.critic.state_dict(),
        "envs": agent.envs.state_dict(),
        "next_start": agent.next_start,
        "generators": [agent.generator.get_state(), agent.sample_generator.get_state()],
        "counters": [agent.num_timesteps, agent.iteration, agent.total_timesteps],
    }


def restore_agent(agent: Any, state: Mapping[str, Any], path: str | Path) -> None:
    """Put the ``agent_state`` read from ``path`` back; CheckpointError where the agent is another one."""
    try:
        agent.load_state_dict(state["algorithm"])
        agent.envs.critic.load_state_dict(state["critic"])
        agent.envs.load_state_dict(state["envs"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} does not fit this agent ({error}). It was saved with another data shape, number of steps or "
            "network; load it with the env_kwargs it was trained with."
        ) from error
    agent.next_start = state["next_start"]
    for generator, saved in zip((agent.generator, agent.sample_generator), state["generators"], strict=True):
        generator.set_state(saved.cpu())
    agent.num_timesteps, agent.iteration, agent.total_timesteps = state["counters"]


def read_agent(path: str | Path, name: str, device: torch.device | str) -> tuple[Any, Header]:
    """State and header of the agent called ``name`` saved at ``path``; CheckpointError for any other file."""
    state, header = load_object(path, "agent", device)
    if header.name != name:
        raise CheckpointError(
            f"{path} holds {header.name!r}, but a {name!r} was to be loaded. Load it with the class that saved it."
        )
    return state, header


def saved_env_kwargs(header: Header, given: Mapping[str, Any] | None, path: str | Path) -> dict[str, Any]:
    """The saved keywords with ``given`` over them; CheckpointError if one that was an object is missing."""
    missing = sorted(set(header.extra["env_objects"]) - set(given or {}))
    if missing:
        raise CheckpointError(
            f"{path} was trained with env_kwargs that are objects and could not be saved: {missing}. Pass them again: "
            f"load(path, env_kwargs=dict({missing[0]}=...))."
        )
    return {**header.extra["env_kwargs"], **(given or {})}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
