"""Atomic checkpoints without pickle: one safetensors file holds tensors, structure, metadata and a checksum.

Layout of a file: a plain safetensors file, readable by every safetensors tool, whose header has the single
entry ``"checkpoint"``, a JSON text ``{"sha256": ..., "content": {"structure": ..., "metadata": ...}}``.
``structure`` is the saved state with every tensor replaced by its name; ``sha256`` covers the content and the
name, dtype, shape and bytes of every tensor. Equal states give equal files, byte for byte.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from diffusion_env.checkpoints.atomic import CheckpointError, write_atomically

SUFFIX = ".safetensors"
HEADER_ENTRY = "checkpoint"
MAX_DEPTH = 64
"""Levels of nested containers in a state; deeper ones would exhaust the interpreter's stack."""


def save_checkpoint(path: str | Path, state: Any, metadata: Mapping[str, Any]) -> Path:
    """Write ``state`` and ``metadata`` to one file, atomically: afterwards the old or the new file is there.

    Args:
        path: target; ``.safetensors`` is appended if it is missing, missing folders are made.
        state: nested dict, list and tuple of tensors (any shape and device) and None, bool, int, float, str;
            dict keys are str or int. An ``optimizer.state_dict()`` and a generator's state are such states.
        metadata: whatever plain JSON can hold (as JSON does, it turns tuples to lists and keys to str).

    Returns:
        The path written, suffix included.

    Raises:
        CheckpointError: the file cannot be written (full disk, permission); an older file is left as it was.
        TypeError: ``state`` or ``metadata`` holds something of another type.
    """
    target = with_suffix(path)
    tensors: dict[str, Tensor] = {}
    content = {"structure": _encode(state, "", tensors), "metadata": _as_json(metadata)}
    header = json.dumps({"sha256": checksum(content, tensors), "content": content})
    return write_atomically(target, to_safetensors(tensors, {HEADER_ENTRY: header}))


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> tuple[Any, dict[str, Any]]:
    """Read back ``(state, metadata)`` of `save_checkpoint`, every tensor a fresh copy on ``device``.

    Keep the default device for a state that holds a generator's state: torch wants that one on the CPU, and
    ``load_state_dict`` moves the others.

    Raises:
        CheckpointError: no such file, truncated, damaged, or not written by `save_checkpoint`.
    """
    source = with_suffix(path)
    header, tensors = _read(source)
    try:
        recorded = json.loads(header or "")
        content, sha256 = recorded["content"], recorded["sha256"]
        structure, metadata = content["structure"], content["metadata"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{source} is a safetensors file, but its header has no valid {HEADER_ENTRY!r} entry, so "
            "save_checkpoint did not write it or it is damaged; pass a file that save_checkpoint wrote."
        ) from error
    if checksum(content, tensors) != sha256:
        raise CheckpointError(
            f"{source} is damaged: its content does not match the checksum stored in it; take another "
            "checkpoint, or copy the file again from where it came."
        )
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{source} is damaged: its metadata are of type {type(metadata).__name__}, not a dict.")
    try:
        return _decode(structure, dict(tensors), device, MAX_DEPTH), metadata
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{source} was not written by save_checkpoint: the structure of its state is no structure ({error!r})."
        ) from error


@dataclass(frozen=True)
class Header:
    """What a saved object is, and from what it is built again: the one header of denoisers, critics and agents."""

    kind: str
    """"denoiser", "critic" or "agent"."""
    name: str
    """Of its class in the table of that kind. A name is looked up among classes that are there: it imports nothing."""
    config: dict[str, Any]
    """JSON keywords that build it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """What else was recorded with it, JSON."""


def save_object(path: str | Path, header: Header, state: Any) -> Path:
    """`save_checkpoint` with a `Header`; errors as there."""
    own = {"kind": header.kind, "name": header.name, "config": header.config}
    return save_checkpoint(path, state, {**header.extra, **own})


def load_object(path: str | Path, kind: str, device: torch.device | str = "cpu") -> tuple[Any, Header]:
    """State and header of the object of ``kind`` that `save_object` wrote; ``device`` as in `load_checkpoint`.

    Raises:
        CheckpointError: as `load_checkpoint`; the file holds another kind, or its header is not a header.
    """
    state, metadata = load_checkpoint(path, device)
    if not isinstance(metadata, dict) or metadata.get("kind") != kind:
        found = metadata.get("kind") if isinstance(metadata, dict) else None
        raise CheckpointError(
            f"{path} holds {'no kind of object' if found is None else repr(found)}, but a {kind!r} was to be loaded. "
            f"Pass the file of a saved {kind}."
        )
    extra = dict(metadata)
    del extra["kind"]
    name, config = extra.pop("name", None), extra.pop("config", None)
    if not isinstance(name, str) or not isinstance(config, dict):
        raise CheckpointError(
            f"The header of {path} says that it is a {kind!r}, but its name is {name!r} and its config of type "
            f"{type(config).__name__}; a header has a name and a dict of keywords. Pass another file."
        )
    return state, Header(kind, name, config, extra)


def with_suffix(path: str | Path) -> Path:
    """``path`` ending in ``.safetensors``; other dots in the name stay (``run.v1`` is not ``run``)."""
    path = Path(path)
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)


def _encode(node: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """``node`` as JSON: containers become ``{kind: items}``, tensors move to ``tensors`` under their path."""
    if isinstance(node, Tensor):
        return {"tensor": _add(node, name, tensors)}
    if isinstance(node, dict):
        return {"dict": [[_key(key, name), _encode(node[key], _join(name, key), tensors)] for key in node]}
    if isinstance(node, list | tuple):
        kind = "list" if isinstance(node, list) else "tuple"
        return {kind: [_encode(item, _join(name, index), tensors) for index, item in enumerate(node)]}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(
        f"A checkpoint cannot hold state entry {name!r} of type {type(node).__name__}; allowed are dict, "
        "list, tuple, tensors, None, bool, int, float and str. Convert it first, for example with "
        "torch.as_tensor or float."
    )


def _decode(node: Any, tensors: dict[str, Tensor], device: torch.device | str, depth: int) -> Any:
    """Inverse of `_encode`; the copy frees tensors from the file they are mapped from.

    Each tensor is taken out of ``tensors``, so that a structure that names one a million times fills no memory.
    """
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if depth == 0:
        raise ValueError(f"more than {MAX_DEPTH} levels")
    ((kind, items),) = node.items() if isinstance(node, dict) else [(type(node).__name__, None)]
    if kind == "tensor" and isinstance(items, str):
        return tensors.pop(items).to(device, copy=True)
    if kind not in ("dict", "list", "tuple") or not isinstance(items, list):
        raise ValueError(f"an entry of kind {kind!r}")
    if kind == "dict":
        return {_key(key, "?"): _decode(item, tensors, device, depth - 1) for key, item in items}
    decoded = [_decode(item, tensors, device, depth - 1) for item in items]
    return decoded if kind == "list" else tuple(decoded)


def _key(key: Any, name: str) -> str | int:
    if isinstance(key, str | int) and not isinstance(key, bool):
        return key
    raise TypeError(
        f"A checkpoint cannot hold the key {key!r} of type {type(key).__name__} in state entry {name!r}; "
        "dict keys must be str or int."
    )


def _join(name: str, key: str | int) -> str:
    return f"{name}.{key}" if name else str(key)


def _add(tensor: Tensor, name: str, tensors: dict[str, Tensor]) -> str:
    """Store a contiguous CPU copy, free of shared storage (safetensors refuses that), under a free name."""
    name = name or "tensor"
    while name in tensors:  # {1: a, "1": b} and {"a": {"b": x}, "a.b": y} ask for one name twice
        name += "'"
    tensors[name] = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
    return name


def _as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """``metadata`` as it will be read back, so that the checksum sees what the reader sees."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(metadata)))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Checkpoint metadata must be plain JSON (dict, list, str, int, float, bool, None): {error}; put "
            "tensors into the state and convert other objects to these types."
        ) from error
    return plain


def checksum(content: Any, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of the content as JSON and of every tensor's (any shape) name, dtype, shape and bytes."""
    digest = hashlib.sha256(json.dumps(content).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read(source: Path) -> tuple[str | None, dict[str, Tensor]]:
    """Header entry (None if absent) and tensors of a safetensors file, the tensors mapped from the file."""
    try:
        if source.is_dir():
            raise IsADirectoryError(f"{source} is a folder")
        with safe_open(source, framework="pt", device="cpu") as file:
            header = (file.metadata() or {}).get(HEADER_ENTRY)
            names = file.keys()  # not a mapping: it cannot be iterated itself
            return header, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError as error:
        raise CheckpointError(
            f"There is no checkpoint at {source}; check the path, or save one there first."
        ) from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source} cannot be read as a checkpoint ({error}): the file is truncated, damaged, or not a "
            "safetensors file; take another checkpoint, or copy the file again from where it came."
        ) from error
