"""Damaged files, wrong content, full disks and kills: a clear error, and nothing is lost."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from diffusion_env.checkpoints import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    write_json,
)
from tests.support import assert_paragraph


class TestBadInput:
    def test_every_truncation_is_refused(self, saved: Path) -> None:
        whole = saved.read_bytes()
        for size in range(len(whole)):
            saved.write_bytes(whole[:size])
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(saved)
            assert_paragraph(caught.value, str(saved))

    def test_every_bit_flip_is_refused(self, saved: Path) -> None:
        whole = saved.read_bytes()
        for position in range(len(whole)):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << (position % 8)
            saved.write_bytes(damaged)
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(saved)
            assert_paragraph(caught.value, str(saved))

    def test_the_undamaged_file_loads(self, saved: Path) -> None:
        saved.write_bytes(bytes(bytearray(saved.read_bytes())))
        assert load_checkpoint(saved)[1] == {"step": 7}

    def test_swapped_tensors_are_refused(self, tmp_path: Path) -> None:
        first = save_checkpoint(tmp_path / "a", {"x": torch.ones(2), "y": torch.zeros(2)}, {})
        other = save_checkpoint(tmp_path / "b", {"x": torch.zeros(2), "y": torch.ones(2)}, {})
        size = 8 + int.from_bytes(first.read_bytes()[:8], "little")
        first.write_bytes(first.read_bytes()[:size] + other.read_bytes()[size:])
        with pytest.raises(CheckpointError, match="checksum"):
            load_checkpoint(first)

    def test_trailing_bytes_are_refused(self, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes() + b"\0")
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "nothing")
        assert_paragraph(caught.value, "no checkpoint at", "nothing.safetensors")

    def test_folder_and_text_and_pickle_and_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "folder.safetensors").mkdir()
        (tmp_path / "text.safetensors").write_text("not a checkpoint")
        (tmp_path / "empty.safetensors").write_bytes(b"")
        torch.save({"x": torch.ones(2)}, tmp_path / "pickle.safetensors")
        for name in ("folder", "text", "empty", "pickle"):
            with pytest.raises(CheckpointError) as caught:
                load_checkpoint(tmp_path / name)
            assert_paragraph(caught.value, name)

    @pytest.mark.parametrize("header", [None, {"format": "pt"}, {"checkpoint": "[]"}, {"checkpoint": "{"}])
    def test_safetensors_of_someone_else(self, tmp_path: Path, header: dict[str, str] | None) -> None:
        save_file({"x": torch.ones(2)}, tmp_path / "other.safetensors", header)
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(tmp_path / "other")
        assert_paragraph(caught.value, "save_checkpoint did not write it")

    @pytest.mark.parametrize("bad", [{1, 2}, b"x", 1j, object()])
    def test_unknown_types_are_named(self, tmp_path: Path, bad: Any) -> None:
        with pytest.raises(TypeError) as caught:
            save_checkpoint(tmp_path / "a", {"net": [0, bad]}, {})
        assert_paragraph(caught.value, "'net.1'", type(bad).__name__)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("key", [1.5, None, (1, 2), True])
    def test_unknown_keys_are_named(self, tmp_path: Path, key: Any) -> None:
        with pytest.raises(TypeError) as caught:
            save_checkpoint(tmp_path / "a", {"net": {key: 1}}, {})
        assert_paragraph(caught.value, repr(key), "'net'")

    def test_metadata_must_be_json(self, tmp_path: Path) -> None:
        with pytest.raises(TypeError) as caught:
            save_checkpoint(tmp_path / "a", {}, {"x": torch.ones(1)})
        assert_paragraph(caught.value, "metadata", "Tensor")


@pytest.fixture
def small_files() -> Iterator[None]:
    """The kernel lets no file of this process grow beyond 4 KiB: a write that really fails half way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def failing(number: int) -> Callable[..., None]:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


class TestNothingIsLost:
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
    def test_failed_write_keeps_the_old_file(
        self, saved: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
    ) -> None:
        before = saved.read_bytes()
        monkeypatch.setattr(os, call, failing(number))
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(saved, {"w": torch.zeros(99)}, {})
        assert_paragraph(caught.value, os.strerror(number), str(saved), "unchanged")
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_interrupt_leaves_no_temporary_file(self, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(saved, {}, {})
        assert list(saved.parent.iterdir()) == [saved]

    def test_folder_that_is_a_file(self, saved: Path) -> None:
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(saved / "below" / "a", {}, {})
        assert_paragraph(caught.value, "could not be written")

    def test_write_that_stops_half_way(self, saved: Path, small_files: None) -> None:
        before = saved.read_bytes()
        with pytest.raises(CheckpointError) as caught:
            save_checkpoint(saved, {"w": torch.zeros(100_000)}, {})
        assert_paragraph(caught.value, os.strerror(errno.EFBIG))
        assert saved.read_bytes() == before
        assert list(saved.parent.iterdir()) == [saved]

    def test_negative_control_writing_in_place_loses_the_old_file(self, saved: Path, small_files: None) -> None:
        with pytest.raises(OSError):
            saved.write_bytes(saved.read_bytes() + bytes(100_000))
        with pytest.raises(CheckpointError):
            load_checkpoint(saved)

    def test_really_full_disk(self, tmp_path: Path) -> None:
        """A 128 KiB tmpfs in a private mount namespace, where the kernel allows one."""
        if shutil.which("unshare") is None:
            pytest.skip("needs the program unshare")
        namespace = ["unshare", "--user", "--map-root-user", "--mount"]
        mount = f"mount -t tmpfs -o size=128k tmpfs {tmp_path}"
        if subprocess.run([*namespace, "sh", "-c", mount], capture_output=True).returncode:
            pytest.skip("needs user namespaces")
        script = f"""
            import os, torch
            from diffusion_env.checkpoints import *
            path = save_checkpoint("{tmp_path}/a", {{"w": torch.ones(1000)}}, {{}})
            try:
                save_checkpoint(path, {{"w": torch.zeros(100_000)}}, {{}})
            except CheckpointError as error:
                print(error)
            print(os.listdir("{tmp_path}"), float(load_checkpoint(path)[0]["w"].sum()))
        """
        command = f'{mount} && exec {sys.executable} -c "$0"'
        done = subprocess.run(
            [*namespace, "sh", "-c", command, textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=True,
        )
        message, listing = done.stdout.strip().splitlines()
        assert os.strerror(errno.ENOSPC) in message
        assert listing == "['a.safetensors'] 1000.0"

    @pytest.mark.parametrize("pause", [0.0, 0.017])
    def test_kill_among_saves_leaves_a_loadable_file(self, tmp_path: Path, pause: float) -> None:
        script = """
            import itertools, sys, torch
            from diffusion_env.checkpoints import save_checkpoint
            for step in itertools.count():
                save_checkpoint(sys.argv[1], {"w": torch.full((300_000,), float(step))}, {"step": step})
                print(step, flush=True)
        """
        path = tmp_path / "run.safetensors"
        command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert [child.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
        state, metadata = load_checkpoint(path)
        assert metadata["step"] >= 2
        assert torch.equal(state["w"], torch.full((300_000,), float(metadata["step"])))


def test_write_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_json(tmp_path / "new" / "result.json", {"a": [1, 2.5, None]})
    text = path.read_text()
    assert json.loads(text) == {"a": [1, 2.5, None]} and re.search(r'\n  "a"', text) and text.endswith("}\n")
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(CheckpointError, match="No space left"):
        write_json(path, {"a": 2})
    assert path.read_text() == text and list(path.parent.iterdir()) == [path]
