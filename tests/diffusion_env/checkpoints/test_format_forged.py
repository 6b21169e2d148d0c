"""Checkpoints made to do harm: whole by their checksum, wrong in what they say; each is refused by a sentence."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusion_env import checkpoints
from diffusion_env.checkpoints import (
    CheckpointError,
    load_checkpoint,
)

TENSORS = {"w": torch.ones(4)}


def forged(folder: Path, structure: Any, metadata: Any = None) -> Path:
    """A file whose checksum is right, whatever it holds."""
    content = {"structure": structure, "metadata": {} if metadata is None else metadata}
    return with_header(folder, {"sha256": checkpoints.checksum(content, TENSORS), "content": content})


def with_header(folder: Path, header: Any) -> Path:
    text = header if isinstance(header, str) else json.dumps(header)
    save_file(TENSORS, folder / "forged.safetensors", {checkpoints.HEADER_ENTRY: text})
    return folder / "forged.safetensors"


def nested(levels: int) -> Any:
    node: Any = {"list": []}
    for _ in range(levels):
        node = {"list": [node]}
    return node


@pytest.mark.parametrize(
    "structure",
    [
        {"tensor": "absent"},
        {"tensor": ["w"]},
        {"tensor": None},
        {"list": [{"tensor": "w"}, {"tensor": "w"}]},  # the same tensor twice
        {"list": 3},
        {"list": None},
        {"dict": [["a"]]},
        {"dict": [["a", 1, 2]]},
        {"dict": [[["a"], 1]]},
        {"dict": [[True, 1]]},
        {"dict": {"a": 1}},
        {"set": []},
        {"os": "system"},
        {},
        {"list": [], "dict": []},
        [1, 2],
        nested(100),
    ],
)
def test_a_structure_that_is_none_is_refused(tmp_path: Path, structure: Any) -> None:
    with pytest.raises(CheckpointError, match=r"forged\.safetensors") as caught:
        load_checkpoint(forged(tmp_path, structure))
    assert "\n" not in str(caught.value)


def test_a_sound_structure_is_read(tmp_path: Path) -> None:
    state, metadata = load_checkpoint(forged(tmp_path, {"tuple": [{"tensor": "w"}, None, 2, nested(50)]}, {"a": 1}))
    assert torch.equal(state[0], torch.ones(4)) and state[1:3] == (None, 2) and metadata == {"a": 1}


@pytest.mark.parametrize("header", ["[" * 100_000, "null", "3", '"text"', "{}", "[]", '{"content": 3, "sha256": ""}'])
def test_headers_of_any_json_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(CheckpointError, match="no valid 'checkpoint' entry"):
        load_checkpoint(with_header(tmp_path, header))


@pytest.mark.parametrize("metadata", [[], "text", 3, True])
def test_metadata_are_a_dict(tmp_path: Path, metadata: Any) -> None:
    with pytest.raises(CheckpointError, match="metadata are of type"):
        load_checkpoint(forged(tmp_path, None, metadata))
