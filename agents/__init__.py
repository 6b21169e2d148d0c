"""Agents that train a denoising sampler; every name is imported when it is first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agents.algorithms.presets import AGENTS, PRESETS, preset

if TYPE_CHECKING:
    from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
    from agents.algorithms.ddpo import DDPO
    from agents.algorithms.dpok import DPOK
    from agents.algorithms.dxdp import DxDP
    from agents.algorithms.grpo import GRPO
    from agents.algorithms.pathwise import Pathwise
    from agents.algorithms.reinforce import Reinforce
    from agents.algorithms.rwr import RWR
    from agents.algorithms.sft_pg import SFTPG
    from agents.core.config import AgentConfig
    from agents.zoo import agent_class, load_agent

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
    **{class_name: f"agents.algorithms.{name}" for name, class_name in AGENTS.items()},
    "AgentConfig": "agents.core.config",
    **dict.fromkeys(("DxDPConfig", "PathwiseConfig", "PolicyGradientConfig"), "agents.algorithms.config"),
    **dict.fromkeys(("agent_class", "load_agent"), "agents.zoo"),
}


def __getattr__(name: str) -> Any:
    # PEP 562: ``ddpm-shortcut --help`` imports this package and must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
