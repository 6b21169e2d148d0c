"""The log of a run folder: JSON lines and tensorboard events, cut at the checkpoint that a resume goes on from.

A checkpoint counts the lines before it (`agents.core.logs`). What came after is written again by the resumed run, so it
is taken out of both files first.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import JSONOutputFormat, TensorBoardOutputFormat

from agents.core.logs import CountedLogger
from diffusion_env.checkpoints import write_atomically

METRICS, DAMAGED, EVENTS = "progress.json", "progress.damaged.json", "events.out.tfevents.*"
TIMESTEPS = "time/total_timesteps"


class RunLogger(CountedLogger):
    """Lines for tensorboard and as JSON in ``folder``, which holds those up to ``num_timesteps``."""

    def __init__(self, folder: Path, num_timesteps: int) -> None:
        events = PurgedEvents(folder, num_timesteps + 1 if num_timesteps > 0 else None)
        super().__init__(str(folder), [events, AppendedJSON(folder / METRICS)])

    def sync(self) -> None:
        """Have the operating system write the lines to the disk: a checkpoint must not be newer than its lines."""
        assert self.dir is not None
        for path in (Path(self.dir) / METRICS, *Path(self.dir).glob(EVENTS)):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                os.fsync(file.fileno())


class AppendedJSON(JSONOutputFormat):
    """stable-baselines3's JSON lines, added to what the file holds instead of over it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`, as in the parent


class PurgedEvents(TensorBoardOutputFormat):
    """stable-baselines3's tensorboard events; a running tensorboard forgets those of step ``purge_step`` and above."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(log_dir=str(folder), purge_step=purge_step)
        self._is_closed = False


def parsed(line: bytes) -> dict[str, Any] | None:
    """One line of metrics; None where it is damaged."""
    try:
        content = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def complete_lines(folder: Path) -> list[bytes]:
    """The lines of progress.json; a last one that a kill cut short is left out."""
    path = folder / METRICS
    content = path.read_bytes() if path.exists() else b""
    return [line + b"\n" for line in content.split(b"\n")[:-1]]


def cut_metrics(folder: Path, num_timesteps: int, lines: int | None) -> int:
    """Take out of progress.json what was logged after the checkpoint at ``num_timesteps``, and say what is damaged.

    ``lines``: how many came before the checkpoint; None where it does not say, then the steps in the lines decide.
    Damaged lines are moved to progress.damaged.json with a warning. Returns how many lines stay.
    """
    found = complete_lines(folder)
    contents = [parsed(line) for line in found]
    count = len(found) if lines is None else lines
    if num_timesteps == 0:
        count = 0  # the run begins again, and so do its lines
    damaged = [line for line, content in zip(found[:count], contents, strict=False) if content is None]
    if lines is None or damaged:  # damage may have joined lines or cut them, so that they no longer count
        kept = [line for line, content in zip(found, contents, strict=True) if _before(content, num_timesteps)]
    else:
        kept = found[:count]
    if damaged:
        with (folder / DAMAGED).open("ab") as file:
            file.writelines(damaged)
        warnings.warn(
            f"{len(damaged)} line(s) of {folder / METRICS} are damaged. They are now in {DAMAGED} beside it; the run "
            "goes on without them.",
            stacklevel=2,
        )
    write_atomically(folder / METRICS, b"".join(kept))
    return len(kept)


def _before(content: Mapping[str, Any] | None, num_timesteps: int) -> bool:
    if content is None or num_timesteps == 0:
        return False
    step = content.get(TIMESTEPS, 0)
    return isinstance(step, int | float) and step <= num_timesteps


def cut_events(folder: Path, num_timesteps: int) -> None:
    """Take events of later steps out of the tensorboard files; all of them where the run begins again at 0.

    Some readers join the files without looking at a purge step, so the later events have to be gone.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    for path in folder.glob(EVENTS):
        if num_timesteps == 0:
            path.unlink()
            continue
        kept, cut = io.BytesIO(), False
        writer = RecordWriter(kept)
        for record in RawEventFileLoader(str(path)).Load():
            if Event.FromString(record).step <= num_timesteps:
                writer.write(record)
            else:
                cut = True
        if cut or kept.tell() != path.stat().st_size:  # a last record that a kill cut short goes too
            write_atomically(path, kept.getvalue())
