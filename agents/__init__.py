"""Agents that train a denoising sampler; every name is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.presets import AGENTS, PRESETS, preset

if TYPE_CHECKING:
    from agents.config import AgentConfig, DxDPConfig, PathwiseConfig, PolicyGradientConfig
    from agents.ddpo import DDPO
    from agents.dpok import DPOK
    from agents.dxdp import DxDP
    from agents.grpo import GRPO
    from agents.pathwise import Pathwise
    from agents.registry import agent_class, load_agent
    from agents.reinforce import Reinforce
    from agents.rwr import RWR
    from agents.sft_pg import SFTPG

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
    "Pathwise",
    "PathwiseConfig",
    "PolicyGradientConfig",
    "Reinforce",
    "agent_class",
    "load_agent",
    "preset",
]

_HOME = {
    **{class_name: f"agents.{name}" for name, class_name in AGENTS.items()},
    **dict.fromkeys(("AgentConfig", "DxDPConfig", "PathwiseConfig", "PolicyGradientConfig"), "agents.config"),
    **dict.fromkeys(("agent_class", "load_agent"), "agents.registry"),
}


def __getattr__(name: str) -> Any:
    # PEP 562: ``ddpm-shortcut --help`` imports this package and must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
