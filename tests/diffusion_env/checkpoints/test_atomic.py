"""Files are written whole: no planted link is followed, many writers agree, leftovers of killed writes go."""

import os
import threading
import time
from pathlib import Path

import pytest

from diffusion_env.checkpoints import (
    write_atomically,
)


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
