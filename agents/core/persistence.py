"""Saving and loading of agents: the state for a bit-exact resume, and the JSON header it is built again from."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import torch

from diffusion_env.checkpoints import CheckpointError, Header, load_module, load_object, load_optimizer, save_object
from diffusion_env.fields import from_json

A = TypeVar("A")

_REPORTED = ("torch", "gymnasium", "stable-baselines3", "numpy", "scipy", "scikit-learn", "safetensors", "pot")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _REPORTED}}


def save_agent(agent: Any, path: str | Path) -> Path:
    """Write ``agent`` to one file; see `agents.core.ipm_agent.IPMAgent.save`."""
    return save_object(path, agent_header(agent), agent_state(agent))


def load_agent(
    cls: type[A],
    path: str | Path,
    env_kwargs: Mapping[str, Any] | None,
    tensorboard_log: str | Path | None,
    device: str | torch.device,
) -> A:
    """The agent of ``cls`` saved at ``path``; CheckpointError for a file that holds anything else.

    The header names no module: the class is the one given, and nothing is imported for a file.
    """
    agent_class: Any = cls
    state, header = load_object(path, "agent", device)
    if header.name != agent_class.name:
        raise CheckpointError(
            f"{path} holds {header.name!r}, but a {agent_class.name!r} was to be loaded. Load it with the class that "
            "saved it."
        )
    try:
        config = from_json(agent_class.config_class, header.config, f"the configuration in {path}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{error} Load it with the class and the version that saved it.") from error
    saved = header.extra
    if not {"env_id", "num_envs", "env_kwargs", "env_objects", "seed"} <= saved.keys():
        raise CheckpointError(f"The header of {path} has only {sorted(saved)}: no agent's `save` wrote it.")
    if not isinstance(saved["env_id"], str) or saved["env_id"] not in gym.registry:
        raise CheckpointError(
            f"{path} was trained in the environment {saved['env_id']!r}, which is not registered here, and a file "
            "never makes us import what it names. Import the package that registers it first, and give the id without "
            "'module:'."
        )
    world = saved_env_kwargs(header, env_kwargs, path)
    agent = agent_class(saved["env_id"], config, saved["num_envs"], world, saved["seed"], tensorboard_log, device)
    restore_agent(agent, state, path)
    loaded: A = agent
    return loaded


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
    """Everything that a bit-exact resume needs: the agent's parts, critic, environments, generators and counters."""
    evaluations = [agent.policy.num_evaluations, agent.reference.num_evaluations]
    return {
        "algorithm": {name: part.state_dict() for name, part in agent.parts.items()} | {"evaluations": evaluations},
        "critic": agent.critic.state_dict(),
        "envs": agent.envs.state_dict(),
        "next_start": agent.next_start,
        "generators": [generator.get_state() for generator in agent.generators],
        "counters": [agent.num_timesteps, agent.iteration, agent.total_timesteps],
    }


def restore_agent(agent: Any, state: Any, path: str | Path) -> None:
    """Put the ``agent_state`` read from ``path`` back; CheckpointError where it is another agent's, or no agent's."""
    try:
        for name, part in agent.parts.items():
            restore_part(part, state["algorithm"][name], f"The {name} in {path}")
        agent.policy.num_evaluations, agent.reference.num_evaluations = state["algorithm"]["evaluations"]
        agent.critic.load_state_dict(state["critic"])
        agent.envs.load_state_dict(state["envs"])
        agent.next_start = state["next_start"]
        for generator, saved in zip(agent.generators, state["generators"], strict=True):
            generator.set_state(saved.cpu())
        agent.num_timesteps, agent.iteration, agent.total_timesteps = state["counters"]
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} does not fit this agent ({error}). It was saved with another data shape, number of steps or "
            "network; load it with the env_kwargs it was trained with."
        ) from error


def restore_part(part: Any, state: Any, what: str) -> None:
    """Put the ``state`` of one of the agent's parts back; CheckpointError, which says ``what`` it is, where it differs.

    Networks and optimizers are compared with it first; a part of another kind checks its state itself.
    """
    if isinstance(part, torch.nn.Module):
        load_module(part, state, what)
    elif isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state, what)
    else:
        part.load_state_dict(state)


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
