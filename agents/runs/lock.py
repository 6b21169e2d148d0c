"""One process per run folder: a lock that ends with its owner.

The owner holds an flock on ``run.lock``, which the kernel releases when the process ends, however it ends, so a lock of
a dead process of this machine never refuses anybody. A network file system may not carry the lock to other machines;
there the file itself counts: it names the owner, who touches it every `BEAT_SECONDS`, and a file of another machine
that was touched within `ALIVE_SECONDS` refuses. Where the platform has no flock there is no lock.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOCK = "run.lock"
BEAT_SECONDS = 60.0
ALIVE_SECONDS = 5 * BEAT_SECONDS


class RunInUse(OSError):
    """Another process writes into the run folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``; RunInUse, which names the owner, where another process has it."""
    path = folder / LOCK
    descriptor = _acquired(path)
    ended = threading.Event()
    beat = threading.Thread(target=_touch, args=(path, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: whoever opened this file sees that it is no longer the one in the folder
        os.close(descriptor)


def _acquired(path: Path) -> int:
    """The descriptor of the lock file, held by this process and with its name inside."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            owner = _owner(descriptor)
            if not _held(descriptor) or _alive_elsewhere(owner, os.fstat(descriptor).st_mtime):
                raise RunInUse(_refusal(path, owner))
            if _is_at(descriptor, path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(_own()).encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner removed it in between; take the one that is there now


def _refusal(path: Path, owner: dict[str, Any]) -> str:
    who = f"process {owner['pid']} on {owner['host']}" if {"pid", "host"} <= owner.keys() else "another process"
    return (
        f"{path.parent} is in use by {who}, and two processes must not write into one run. Wait until it has ended, or "
        f"end it. If it ended on another machine, try again in {ALIVE_SECONDS / 60:g} minutes or delete {path}."
    )


def _own() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "machine": _machine()}


def _machine() -> str:
    """The same for all processes of one running kernel, containers included, whose locks each other sees."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


def _owner(descriptor: int) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _alive_elsewhere(owner: dict[str, Any], touched: float) -> bool:
    return owner.get("machine", _machine()) != _machine() and time.time() - touched < ALIVE_SECONDS


def _held(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _touch(path: Path, ended: threading.Event) -> None:
    while not ended.wait(BEAT_SECONDS):
        with contextlib.suppress(OSError):
            os.utime(path)
