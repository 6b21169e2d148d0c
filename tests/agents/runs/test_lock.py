"""One process per run folder."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agents.runs.lock import ALIVE_SECONDS, LOCK, RunInUse, locked

HOLDS = """
import sys, time
from pathlib import Path
from agents.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    with locked(tmp_path):
        who = rf"in use by process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(RunInUse, match=who), locked(tmp_path):
            pass
        assert (tmp_path / LOCK).exists()  # the refusal has not taken it away
    assert not (tmp_path / LOCK).exists()
    with locked(tmp_path):  # free again
        pass


def test_a_killed_owner_refuses_nobody(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    with pytest.raises(RunInUse, match=f"process {process.pid} on"), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    assert json.loads((tmp_path / LOCK).read_text())["pid"] == process.pid
    with locked(tmp_path):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    process.stdout.close()


@pytest.mark.parametrize(("age", "refused"), [(0.0, True), (ALIVE_SECONDS + 60, False)])
def test_on_a_network_file_system_the_age_of_the_file_counts(tmp_path: Path, age: float, refused: bool) -> None:
    path = tmp_path / LOCK
    path.write_text(json.dumps({"host": "node7", "pid": 3, "machine": "another"}))
    os.utime(path, (time.time() - age,) * 2)
    if refused:
        with pytest.raises(RunInUse, match=r"process 3 on node7.*try again in 5 minutes or delete"), locked(tmp_path):
            pass
    else:
        with locked(tmp_path):
            pass


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00\xff"])
def test_a_damaged_lock_file_refuses_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / LOCK).symlink_to(tmp_path / "precious")
    with pytest.raises(OSError), locked(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "text"
