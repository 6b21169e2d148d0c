"""Agents that train a denoising sampler; every name is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.algorithms.presets import AGENTS, PRESETS, preset

if TYPE_CHECKING:
    from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
    from agents.algorithms.dxdp import DxDP
    from agents.algorithms.pathwise import Pathwise
    from agents.algorithms.policy_gradient import DDPO, DPOK, GRPO, RWR, SFTPG, Reinforce
    from agents.core.config import AgentConfig
    from agents.core.ipm_agent import IPMAgent
    from agents.core.many import ManySeeds
    from agents.core.task import Task
    from agents.zoo import agent_class, find, load_agent

__all__ = [
    "DDPO",
    "DPOK",
    "GRPO",
    "PRESETS",
    "RWR",
    "SFTPG",
    "AgentConfig",
    "DxDP",
    "DxDPConfig",
    "IPMAgent",
    "ManySeeds",
    "Pathwise",
    "PathwiseConfig",
    "PolicyGradientConfig",
    "Reinforce",
    "Task",
    "agent_class",
    "find",
    "load_agent",
    "preset",
]

_HOME = {
    **{class_name: module for module, class_name in (where.split(":") for where in AGENTS.values())},
    "AgentConfig": "agents.core.config",
    "IPMAgent": "agents.core.ipm_agent",
    "ManySeeds": "agents.core.many",
    **dict.fromkeys(("DxDPConfig", "PathwiseConfig", "PolicyGradientConfig"), "agents.algorithms.config"),
    "Task": "agents.core.task",
    **dict.fromkeys(("agent_class", "find", "load_agent"), "agents.zoo"),
}


def __getattr__(name: str) -> Any:
    # PEP 562: ``ddpm-shortcut --help`` imports this package and must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
