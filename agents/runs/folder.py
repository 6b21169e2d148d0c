"""What a run leaves on disk, and who may write there.

config.json              the configuration, the environment's keywords, the seed, the command, versions
progress.json            metrics, a JSON object per line (stable-baselines3's format); see `agents.runs.logs`
progress.damaged.json    lines that were damaged when the run was resumed
events.out.tfevents.*    the same for tensorboard, with pictures
checkpoint.safetensors   the newest complete state (see `agents.runs.callbacks.Checkpoint`)
run.lock                 while a process writes here: which one (see `agents.runs.lock`)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.core.headers import named_paths, task_keywords
from agents.core.logs import CountedLogger, restore_pending
from agents.core.persistence import CHECKPOINT, versions
from agents.core.task import Task
from agents.runs.lock import LOCK, locked
from agents.runs.logs import RunLogger, complete_lines, cut_events, cut_metrics, parsed
from diffusion_env.checkpoints import Header, write_json
from diffusion_env.checkpoints.atomic import TEMPORARY
from diffusion_env.critics.factory import CRITICS
from diffusion_env.data.named import DATASET_NAMES

CONFIG = "config.json"


@dataclass(frozen=True)
class RunFolder:
    """One run; make it with `create` or find it with `open`."""

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """A folder holding ``config`` (JSON) and the versions.

        Raises FileExistsError if anything is there already but a run of the same ``config`` that was killed before its
        first checkpoint: that one begins again.
        """
        path = Path(path)
        run = cls(path)
        if path.exists() and (not path.is_dir() or any(map(_counts, path.iterdir()))) and not run._is_begun(config):
            raise FileExistsError(
                f"{path} already holds a run or other files, and a run is never written over another. Choose another "
                f"folder, continue that run with `ddpm-shortcut train --resume {path}`, or delete it first."
            )
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / CONFIG, {**config, "versions": versions()})
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run in ``path``, which may have no checkpoint yet; FileNotFoundError if there is none."""
        run = cls(Path(path))
        if not (run.path / CONFIG).is_file():
            raise FileNotFoundError(
                f"{path} is not a run that can be continued: {CONFIG} is missing there. Give the folder that "
                f"`ddpm-shortcut train` wrote; it holds {CONFIG} and, from the first iteration on, {CHECKPOINT}."
            )
        return run

    def _is_begun(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with the options of ``config`` was begun here and has no checkpoint yet."""
        return not self.checkpoint.exists() and self.matches(config)

    def matches(self, config: Mapping[str, Any]) -> bool:
        """Whether a run with the options of ``config`` was begun here; the words of its command do not count."""
        if not (self.path / CONFIG).is_file():
            return False
        wanted, recorded = json.loads(json.dumps(dict(config))), self.config
        return all(recorded.get(key) == value for key, value in wanted.items() if key != "command")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Write here alone; RunInUse, which names the owner, where another process does."""
        with locked(self.path):
            yield

    @property
    def checkpoint(self) -> Path:
        """The newest complete state."""
        return self.path / CHECKPOINT

    @property
    def config(self) -> dict[str, Any]:
        """What ``create`` was given, and ``versions``; ValueError if the file is not JSON."""
        try:
            content: dict[str, Any] = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"it holds a {type(content).__name__} and no dict")
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{self.path / CONFIG} is damaged ({error}). Restore it; the samples are still to be had with "
                f"`ddpm-shortcut sample --checkpoint {self.checkpoint}`."
            ) from error
        return content

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of progress.json; damaged ones, and a last one that a kill cut short, are left out."""
        return [content for content in map(parsed, complete_lines(self.path)) if content is not None]

    def logger(self, num_timesteps: int = 0, logged: Mapping[str, Any] | None = None) -> CountedLogger:
        """Tensorboard and JSON lines in the folder, for a run that stands at ``num_timesteps``.

        What was logged after the checkpoint that is continued will be logged again and is taken out. ``logged``: what
        the checkpoint keeps of the log (`agents.core.logs.log_state`); None goes by the steps in the lines.
        """
        lines = cut_metrics(self.path, num_timesteps, None if logged is None else int(logged["lines"]))
        cut_events(self.path, num_timesteps)
        logger = RunLogger(self.path, num_timesteps)
        logger.lines = lines
        if logged is not None and num_timesteps > 0:
            restore_pending(logger, logged)
        return logger


class SilentFolder(RunFolder):
    """The folder of a run as every rank but the first has it, which writes there: here nothing is written or locked."""

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nothing."""
        yield

    def logger(self, num_timesteps: int = 0, logged: Mapping[str, Any] | None = None) -> CountedLogger:
        """A log that goes nowhere."""
        return CountedLogger(folder=None, output_formats=[])


def _counts(path: Path) -> bool:
    """Whether a file makes a folder a used one: what a killed write left and the lock do not."""
    return path.name != LOCK and not (path.name.startswith(".") and path.name.endswith(TEMPORARY))


def believed_paths(folder: Path, header: Header) -> dict[str, str]:
    """The paths in the ``header`` of a checkpoint that config.json in the ``folder`` of its run names too.

    config.json holds the command line that the run was made with; where it has no task, there are none.
    """
    try:
        typed = named_paths(RunFolder(folder).config["options"]["task"])
    except (OSError, ValueError, LookupError, TypeError):
        return {}
    return {name: path for name, path in named_paths(task_keywords(header)).items() if typed.get(name) == path}


def next_folder(parent: str | Path, name: str) -> Path:
    """``parent/name-1``, or the first number that is free."""
    number = 1
    while (Path(parent) / f"{name}-{number}").exists():
        number += 1
    return Path(parent) / f"{name}-{number}"


def set_aside(path: str | Path) -> Path | None:
    """Rename the run at ``path`` to the next free ``path-N`` and return that; None if there is no run.

    Raises RunInUse where a process writes there.
    """
    path = Path(path)
    if not (path / CONFIG).is_file():
        return None
    with locked(path):
        pass
    return path.rename(next_folder(path.parent, path.name))


def located(task: Task) -> Task:
    """``task`` with absolute paths, for a run may be continued from another folder; names stay as they are."""
    names = ("dataset", "denoiser", "critic")
    return replace(task, **{name: absolute(getattr(task, name)) for name in names})


def absolute(name: Any) -> Any:
    """The absolute path of a file or folder that is there; a name, or an object, as it is."""
    if not isinstance(name, str):
        return name
    prefix, colon, path = name.rpartition(":")  # "frozen:critic.safetensors"
    is_name = path in (*DATASET_NAMES, *CRITICS)  # names win over files that are called the same
    return name if is_name or not Path(path).exists() else f"{prefix}{colon}{Path(path).resolve()}"
