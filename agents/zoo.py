"""Agents by name, and whatever agent a file holds."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from agents.algorithms.presets import AGENTS
from diffusion_env.checkpoints import CheckpointError, load_object

if TYPE_CHECKING:
    from agents.core.ipm_agent import IPMAgent


def agent_class(name: str) -> type[IPMAgent]:
    """The class of the agent called ``name``; ValueError lists the names there are."""
    if name not in AGENTS:
        raise ValueError(f"Unknown agent {name!r}. Choose one of {list(AGENTS)}.")
    module, class_name = AGENTS[name].split(":")
    found: Any = getattr(import_module(module), class_name)
    return found


def load_agent(path: str | Path, device: str | torch.device = "cpu", **options: Any) -> IPMAgent:
    """The agent saved at ``path``, of whatever class; ``options`` as `agents.core.ipm_agent.IPMAgent.load`.

    Raises CheckpointError for a file that holds no agent.
    """
    name = load_object(path, "agent")[1].name
    if name not in AGENTS:
        raise CheckpointError(
            f"{path} holds {name!r}; agents are {list(AGENTS)}. Give the checkpoint of a training run."
        )
    return agent_class(name).load(path, device=device, **options)
