"""Helping processes end with the one they help."""

import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from agents.runs.processes import Children, follow_parent

PARENT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from agents.runs.processes import follow_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), follow_parent)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 60)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):  # it may end between two looks
        return False


def ends(pid: int, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(pid)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes in /proc")
def test_a_child_ends_with_a_parent_that_is_killed(tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "parent.py")
    with open(script, "w", encoding="utf-8") as file:
        file.write(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert is_alive(child)
    process.kill()
    process.wait()
    process.stdout.close()
    assert ends(child)


def test_children_are_killed_and_no_others() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, follow_parent) as other:
        assert other.submit(abs, -1).result() == 1
        children = Children()
        with ProcessPoolExecutor(1, context, follow_parent) as pool:
            pid = pool.submit(os.getpid).result()
            children.kill()
            assert ends(pid)
        assert other.submit(abs, -2).result() == 2
