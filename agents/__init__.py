"""Agents that train a denoising sampler; ``SFTPG``, ``SFTPGConfig`` and ``PRESETS`` are imported when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.config import PRESETS, SFTPGConfig
    from agents.sft_pg import SFTPG

__all__ = ["PRESETS", "SFTPG", "SFTPGConfig"]

_HOME = {"SFTPG": "agents.sft_pg", "SFTPGConfig": "agents.config", "PRESETS": "agents.config"}


def __getattr__(name: str) -> Any:
    # PEP 562: ``ddpm-shortcut --help`` imports this package and must not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}.")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
