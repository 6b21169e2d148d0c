"""What a run leaves on disk, and who may write there.

config.json              the configuration, the environment's keywords, the seed, the command, versions
progress.json            metrics, a JSON object per line (stable-baselines3's format)
events.out.tfevents.*    the same for tensorboard, with pictures
checkpoint.safetensors   the newest complete state (see `agents.runs.callbacks.Checkpoint`)
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import JSONOutputFormat, Logger, make_output_format

from agents.core.headers import named_paths
from agents.core.persistence import versions
from agents.core.task import Task
from agents.runs.callbacks import CHECKPOINT
from diffusion_env.checkpoints import write_json
from diffusion_env.critics.factory import CRITICS
from diffusion_env.data.named import DATASET_NAMES

CONFIG, METRICS = "config.json", "progress.json"
TIMESTEPS = "time/total_timesteps"


@dataclass(frozen=True)
class RunFolder:
    """One run; make it with `create` or find it with `open`."""

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """A new folder holding ``config`` (JSON) and the versions; FileExistsError if anything is there already."""
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise FileExistsError(
                f"{path} already holds a run or other files, and a run is never written over another. Choose another "
                f"folder, continue that run with `ddpm-shortcut train --resume {path}`, or delete it first."
            )
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / CONFIG, {**config, "versions": versions()})
        return cls(path)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """The run in ``path``; FileNotFoundError if there is none with a checkpoint."""
        run = cls(Path(path))
        for needed in (run.path / CONFIG, run.checkpoint):
            if not needed.is_file():
                raise FileNotFoundError(
                    f"{path} is not a run that can be continued: {needed.name} is missing there. Give the folder that "
                    f"`ddpm-shortcut train` wrote; it holds {CONFIG} and {CHECKPOINT}."
                )
        return run

    @property
    def checkpoint(self) -> Path:
        """The newest complete state."""
        return self.path / CHECKPOINT

    @property
    def config(self) -> dict[str, Any]:
        """What ``create`` was given, and ``versions``; ValueError if the file is not JSON."""
        try:
            content: dict[str, Any] = json.loads((self.path / CONFIG).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"{self.path / CONFIG} is damaged ({error}). Restore it; the samples are still to be had with "
                f"`ddpm-shortcut sample --checkpoint {self.checkpoint}`."
            ) from error
        return content

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of progress.json; a last line cut short by a kill is left out."""
        path = self.path / METRICS
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def logger(self, num_timesteps: int = 0) -> Logger:
        """Tensorboard and JSON lines in the folder, for a run that stands at ``num_timesteps``.

        Lines of later steps were written after the checkpoint that is continued and will be written again.
        """
        kept = [line for line in self.metrics() if line[TIMESTEPS] <= num_timesteps and num_timesteps > 0]
        temporary = self.path / f".{METRICS}.tmp"
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        os.replace(temporary, self.path / METRICS)
        folder = str(self.path)
        return Logger(folder, [make_output_format("tensorboard", folder), AppendedJSON(self.path / METRICS)])


class AppendedJSON(JSONOutputFormat):
    """stable-baselines3's JSON lines, added to what the file holds instead of over it."""

    def __init__(self, path: Path) -> None:
        self.file = open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`, as in the parent


def typed_paths(path: Path) -> set[tuple[str, str]]:
    """Names and values of the paths on the command line of the run in ``path``; none where config.json has no task."""
    try:
        task = RunFolder(path).config["options"]["task"]
    except (OSError, ValueError, LookupError, TypeError):
        return set()
    return set(named_paths(task).items())


def next_folder(parent: str | Path, name: str) -> Path:
    """``parent/name-1``, or the first number that is free."""
    number = 1
    while (Path(parent) / f"{name}-{number}").exists():
        number += 1
    return Path(parent) / f"{name}-{number}"


def set_aside(path: str | Path) -> Path | None:
    """Rename the run at ``path`` to the next free ``path-N`` and return that; None if there is no run."""
    path = Path(path)
    if not (path / CONFIG).is_file():
        return None
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
