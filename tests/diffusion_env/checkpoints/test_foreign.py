"""Weights and JSON of other programs: what is read, and what is refused before it can do harm."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.checkpoints.foreign import LARGEST_JSON, inside, read_json, read_torch, read_weights, state_dict
from tests.support import normal

WEIGHTS = {"a": normal(2, 3), "b": normal(4)}


class Runs:
    """What a forged pickle would do."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def same_weights(found: dict[str, torch.Tensor]) -> bool:
    return set(found) == set(WEIGHTS) and all(torch.equal(found[name], WEIGHTS[name]) for name in WEIGHTS)


@pytest.mark.parametrize("is_archive", [True, False])
def test_files_of_torch_are_read(tmp_path: Path, is_archive: bool) -> None:
    torch.save(WEIGHTS, tmp_path / "net.pth", _use_new_zipfile_serialization=is_archive)
    assert same_weights(read_weights(tmp_path / "net.pth"))
    torch.save([1, {"lr": 0.1}, WEIGHTS], tmp_path / "list.ckpt", _use_new_zipfile_serialization=is_archive)
    content = read_torch(tmp_path / "list.ckpt")
    assert content[1] == {"lr": 0.1} and same_weights(content[2])


def test_files_of_safetensors_are_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "net.safetensors")
    assert same_weights(read_weights(tmp_path / "net.safetensors"))


@pytest.mark.parametrize("is_archive", [True, False])
@pytest.mark.parametrize("content", [Runs(), {"a": torch.ones(2), "b": Runs()}, [1, 2, 3, 4, Runs()]])
def test_a_pickle_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, is_archive: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "net.pth", _use_new_zipfile_serialization=is_archive)
    with pytest.raises(CheckpointError, match=r"net\.pth cannot be read as torch's weights .* could run code"):
        read_torch(Path("net.pth"))
    assert not Path("harm").exists()
    torch.load("net.pth", weights_only=False)  # negative control
    assert Path("harm").exists()


@pytest.mark.parametrize(("name", "cut"), [("net.pth", 40), ("net.safetensors", 12)])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, cut: int) -> None:
    path = tmp_path / name
    torch.save(WEIGHTS, path) if name.endswith("pth") else save_file(WEIGHTS, path)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(CheckpointError, match=r"cannot be read as"):
        read_weights(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    torch.save(WEIGHTS, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.pth") as stored, zipfile.ZipFile(tmp_path / "small.pth", "w") as deflated:
        for member in stored.infolist():
            deflated.writestr(member.filename, stored.read(member), zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"it is a compressed archive, .* could expand"):
        read_weights(tmp_path / "small.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"but an empty dict"),
        ([WEIGHTS], r"but of type list"),
        ({"a": 1.0, "b": torch.ones(2)}, r"a dict whose \['a'\] are no tensors"),
        ({"a": torch.ones(1).expand(10**9)}, r"tensors promise 4000000000: they are views that would grow"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=message):
        state_dict(read_torch(tmp_path / "net.pth"), tmp_path / "net.pth")


def test_a_file_inside_a_folder_may_not_lead_out_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "unet").mkdir(parents=True)
    (tmp_path / "secret.json").write_text("{}")
    (folder / "unet" / "own.json").write_text("{}")
    (folder / "config.json").symlink_to(tmp_path / "secret.json")
    (folder / "again.json").symlink_to(folder / "unet" / "own.json")
    (folder / "scheduler").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.json")
    assert inside(folder, "unet", "own.json") and inside(folder, "again.json")
    assert inside(folder, "pipe.json") is None and inside(folder, "nothing.json") is None
    for parts in (("config.json",), ("scheduler", "secret.json"), ("..", "secret.json")):
        with pytest.raises(CheckpointError, match=r"is a link to a file outside .*cp -rL"):
            inside(folder, *parts)


@pytest.mark.parametrize(
    "content", ["", "[1]", "{'a': 1}", "\xff", "[" * 100_000, f'{{"a": "{"x" * LARGEST_JSON}"}}'], ids=range(6)
)
def test_what_is_no_small_json_object_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"config\.json is not the JSON object that is expected here: "):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"a": [1]}')
    assert read_json(tmp_path / "config.json") == {"a": [1]}
