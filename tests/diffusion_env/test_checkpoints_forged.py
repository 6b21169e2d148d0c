"""Checkpoints made to do harm: whole by their checksum, wrong in what they say; each is refused by a sentence."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from diffusion_env import checkpoints
from diffusion_env.checkpoints import (
    CheckpointError,
    load_checkpoint,
    load_module,
    load_optimizer,
    save_checkpoint,
    write_atomically,
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


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "NoneType and not a dict"),
        ([], "list and not a dict"),
        ({"weight": None, "bias": torch.zeros(2)}, "'weight' is a NoneType"),
        ({"weight": "text", "bias": 3}, "'weight' is a str"),
        ({3: torch.zeros(2)}, "'weight' is missing"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"shape \(3, 2\) where \(2, 2\)"),
    ],
)
def test_a_state_that_does_not_fit_a_module_is_refused(state: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_module(nn.Linear(2, 2), state, "The network")


def stepped(width: int = 2) -> tuple[nn.Linear, torch.optim.Adam]:
    layer = nn.Linear(width, 2)
    adam = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, width)).sum().backward()
    adam.step()
    return layer, adam


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """The state of an optimizer after a step, with one entry replaced."""
    state: Any = stepped()[1].state_dict()
    node = state
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return dict(state)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"state": [], "param_groups": []},
        changed(["state", 0, "exp_avg"], torch.zeros(1)),
        changed(["state", 0, "exp_avg"], torch.zeros(10_000, 10_000)[:1]),
        changed(["state", 0, "exp_avg"], torch.zeros(2, 2, dtype=torch.int64)),
        changed(["state", 0, "exp_avg"], "text"),
        changed(["state", 0, "step"], torch.zeros(2, 2)),
        changed(["state", 0, "exp_avg_sq"], torch.tensor(1.0)),
        changed(["state", 7], {}),
        changed(["state", "a"], {}),
        changed(["state", 0], None),
        changed(["param_groups"], None),
        changed(["param_groups", 0], []),
        changed(["param_groups", 0, "params"], [0]),
        changed(["param_groups", 0, "lr"], "fast"),
        changed(["param_groups", 0, "lr"], float("nan")),
        changed(["param_groups", 0, "lr"], -1.0),
        changed(["param_groups", 0, "fused"], False),
        changed(["param_groups", 0, "betas"], None),
        changed(["param_groups", 0, "eps"], [1]),
        changed(["param_groups", 0, "new"], 1),
    ],
)
def test_a_forged_optimizer_state_is_refused_before_it_is_used(state: Any) -> None:
    _, adam = stepped()
    with pytest.raises(CheckpointError, match="The moments does not fit this Adam: "):
        load_optimizer(adam, state, "The moments")


def test_an_optimizer_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    layer, adam = stepped()
    adam.param_groups[0]["lr"] = 0.5
    state, _ = load_checkpoint(save_checkpoint(tmp_path / "a", {"adam": adam.state_dict()}, {}))
    other = torch.optim.Adam(layer.parameters(), fused=True)
    load_optimizer(other, state["adam"], "The moments")
    assert other.param_groups[0]["lr"] == 0.5
    assert torch.equal(other.state[layer.weight]["exp_avg"], adam.state[layer.weight]["exp_avg"])
    other.state[layer.weight]["exp_avg"].zero_()
    assert state["adam"]["state"][0]["exp_avg"].any()  # a copy was loaded


class TestWriting:
    def test_a_planted_link_is_not_written_through(self, tmp_path: Path) -> None:
        """Temporary names cannot be foreseen; the old scheme's, target and process id, is planted here."""
        victim = tmp_path / "victim"
        victim.write_text("mine")
        (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(victim)
        (tmp_path / "a").symlink_to(victim)
        write_atomically(tmp_path / "a", b"new")
        assert victim.read_text() == "mine" and (tmp_path / "a").read_bytes() == b"new"
        assert not (tmp_path / "a").is_symlink()

    def test_many_writers_of_one_path(self, tmp_path: Path) -> None:
        path, sizes, bad = tmp_path / "a", [10_000 * (i + 1) for i in range(6)], list[str]()
        write_atomically(path, bytes([0]) * sizes[0])

        def write(i: int) -> None:
            for _ in range(20):
                write_atomically(path, bytes([i]) * sizes[i])
                content = path.read_bytes()
                if content != bytes([content[0]]) * sizes[content[0]]:
                    bad.append(f"{len(content)} bytes of writer {content[0]}")

        writers = [threading.Thread(target=write, args=(i,)) for i in range(6)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert bad == [] and [file.name for file in tmp_path.iterdir()] == ["a"]

    def test_leftovers_of_killed_writes_go_and_those_of_living_ones_stay(self, tmp_path: Path) -> None:
        fcntl = pytest.importorskip("fcntl")
        killed, living, young, other = (tmp_path / f".{n}.tmp" for n in ("a.1", "a.2", "a.3", "b.1"))
        for leftover in (killed, living, young, other):
            leftover.write_bytes(b"half")
            if leftover is not young:
                os.utime(leftover, (time.time() - 3_600,) * 2)
        with open(living, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            write_atomically(tmp_path / "a", b"new")
        assert {file.name for file in tmp_path.iterdir()} == {"a", ".a.2.tmp", ".a.3.tmp", ".b.1.tmp"}

    def test_files_are_as_readable_as_any_other(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_text("")
        write_atomically(tmp_path / "a", b"new")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode
