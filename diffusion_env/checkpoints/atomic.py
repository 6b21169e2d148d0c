"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import time
from glob import escape
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

TEMPORARY = ".tmp"
ABANDONED_SECONDS = 60.0
"""A temporary file younger than this may belong to a writer that has not locked it yet."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read, or applied to the object it is meant for."""


def write_json(path: str | Path, obj: Any) -> Path:
    """Write ``obj`` as indented JSON, atomically like `save_checkpoint`, and return the path.

    Raises:
        CheckpointError: the file cannot be written; an older file is left as it was.
        TypeError: ``obj`` holds something that JSON cannot.
    """
    return write_atomically(path, (json.dumps(obj, indent=2) + "\n").encode())


def write_atomically(path: str | Path, data: bytes) -> Path:
    """Replace the file at ``path`` by one of ``data`` in one step: its folder entry is the old or the new whole file.

    The temporary file beside it has a name that nobody can foresee and is made anew, so that neither a planted link nor
    another writer is written into. It is synced before it is renamed, or a power cut could leave the new name on
    missing bytes. What a killed write left behind is removed by the next one to the same path.

    Raises:
        CheckpointError: the file cannot be written; an older file is left as it was.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        with NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", suffix=TEMPORARY, delete=False) as file:
            try:
                _lock(file.fileno())
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(file.name, 0o666 & ~_umask())  # a temporary file is readable by its owner alone
                os.replace(file.name, target)
            except BaseException:
                with contextlib.suppress(OSError):  # must not hide the first error
                    os.unlink(file.name)
                raise
    except OSError as error:
        raise CheckpointError(
            f"{target} could not be written ({error.strerror or error}); what was there before is unchanged "
            f"and the unfinished file is removed. Free {len(data)} bytes on that disk, make the folder "
            "writable, or save to another folder."
        ) from error
    return target


def _remove_abandoned(target: Path) -> None:
    """Remove temporary files of ``target`` that no living writer holds, of writes that were killed.

    A writer locks its file; the system lets go of the lock when the process ends, in other containers too.
    """
    for leftover in target.parent.glob(f".{escape(target.name)}.*{TEMPORARY}"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.lstat().st_mtime < ABANDONED_SECONDS or not leftover.is_file():
                continue
            with open(leftover, "rb") as file:
                if _lock(file.fileno()):
                    leftover.unlink()


def _lock(descriptor: int) -> bool:
    """Whether this process now holds the file; True where the platform has no such locks."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _umask() -> int:
    """The process's umask, which can only be read by setting it."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
