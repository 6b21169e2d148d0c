"""What a result was made with and on: goes into every result."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from agents.core.persistence import versions

CODE = (":(top)", ":(top,exclude)benchmarks/results")
"""What a change of is a change of the code: everything but the results."""


def manifest() -> dict[str, Any]:
    """Library versions, machine and the commit of the code (with "+" if it was changed since)."""
    return {"versions": versions(), "machine": machine(), "commit": _commit()}


def machine() -> dict[str, Any]:
    """Processor, cores, torch threads and the accelerator, if any."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpu": gpu,
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + "+" * bool(_git("status", "--porcelain", "--untracked-files=no", "--", *CODE))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", *arguments], cwd=here, check=True, capture_output=True, text=True).stdout.strip()
