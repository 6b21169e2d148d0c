"""Files of weights and JSON that other programs wrote: read without running code, and only where the user pointed.

A file in torch's own format is a pickle. ``torch.load(weights_only=True)`` rebuilds tensors, numbers and plain
containers and refuses everything else; nothing here reads it in any other way.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diffusion_env.checkpoints.atomic import CheckpointError
from diffusion_env.checkpoints.format import SUFFIX

TORCH_SUFFIXES = (".ckpt", ".pth", ".pt", ".bin")
LARGEST_JSON = 2**22
"""Bytes. A thousand numbers take about 20,000."""


def inside(folder: Path, *parts: str) -> Path | None:
    """The regular file ``folder``/``parts``; None where there is none.

    Raises CheckpointError for a link that leads out of the folder, whose target the user has not named.
    """
    path = folder.joinpath(*parts)
    if not path.is_file():
        return None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise CheckpointError(
            f"{path} is a link to a file outside {folder}, so it is not read. If you trust it, copy the folder with "
            "its links followed (cp -rL) and give the copy."
        )
    return path


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; CheckpointError where it holds anything else or is larger than `LARGEST_JSON`."""
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise ValueError(f"it is larger than {LARGEST_JSON} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not the JSON object that is expected here: {error}. Give another file."
        ) from error
    return content


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote: tensors (any shape), numbers, strings and plain containers of them, on the CPU.

    Raises CheckpointError for a damaged file, and for one that holds any other object.
    """
    try:
        is_archive = zipfile.is_zipfile(path)  # files from before torch 1.6 are none
        if is_archive:
            with zipfile.ZipFile(path) as archive:
                if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                    raise ValueError("it is a compressed archive, which torch does not write and which could expand")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except Exception as error:  # what is wrong with a forged file shows in many ways
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{path} cannot be read as torch's weights ({reason}). It is damaged, or it holds more than tensors, "
            "numbers and containers, which is refused because it could run code. In a program that you trust, save "
            "the state dict alone: torch.save(network.state_dict(), path)."
        ) from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors (any shape) of a plain state dict: a safetensors file, or one in torch's format.

    Raises CheckpointError for a file of anything else.
    """
    if path.suffix != SUFFIX:
        return state_dict(read_torch(path), path)
    try:
        return state_dict(load_file(path), path)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} cannot be read as a safetensors file ({error}). Give another file.") from error


def state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """``content`` as tensors (any shape) by name.

    Raises CheckpointError where it is no dict of tensors, and where they promise more numbers than ``path`` has bytes
    for: a view of one number can have any shape, and would become memory when it is copied.
    """
    wrong = f"of type {type(content).__name__}"
    if isinstance(content, Mapping):
        others = [name for name, one in content.items() if not isinstance(name, str) or not isinstance(one, Tensor)]
        if content and not others:
            promised, held = sum(one.numel() * one.element_size() for one in content.values()), path.stat().st_size
            if promised <= held:
                return dict(content)
            raise CheckpointError(
                f"{path} has {held} bytes, but its tensors promise {promised}: they are views that would grow when "
                "they are copied. Save them with .contiguous()."
            )
        wrong = f"a dict whose {others[:3]} are no tensors" if others else "an empty dict"
    raise CheckpointError(f"{path} does not hold a state dict, weights by name, but {wrong}. Give another file.")
