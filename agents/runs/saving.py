"""Headers of saved algorithms that are no agents of `agents.core`: the task, the seed, the changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.core.algorithm import Changes, Entry
from agents.core.persistence import checkpoint_at, compare_data, data_digest, versions
from agents.core.task import Task
from diffusion_env.checkpoints import CheckpointError, Header, load_object
from diffusion_env.data.dataset import Dataset


def run_header(name: str, task: Task, seed: int, changes: Mapping[str, Any], dataset: Dataset) -> Header:
    """What the algorithm called ``name`` is made from again: task, seed, and ``changes`` of hyper-parameters, JSON.

    ``dataset``: what it is trained on, of which a digest is kept.
    """
    extra = {"task": task.saved(), "task_objects": task.objects, "seed": seed}
    extra |= {"data": data_digest(dataset), "versions": versions()}
    return Header("agent", name, dict(changes), extra)


def saved_task(header: Header, given: Mapping[str, Any] | None, device: str, path: str | Path) -> Task:
    """The task of a header, on ``device``, with ``given`` fields over it.

    CheckpointError where a field was an object and is not given, or the header is not one of `run_header`.
    """
    try:
        missing = sorted(set(header.extra["task_objects"]) - set(given or {}))
        task = None if missing else Task.from_json(header.extra["task"], **(given or {}))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The header of {path} does not describe a task ({error!r}). Give the checkpoint of a training run."
        ) from error
    if task is None:
        raise CheckpointError(
            f"{path} was trained on a task with objects that could not be saved: {missing}. Pass them again: "
            f"load_agent(path, env_kwargs=dict({missing[0]}=...))."
        )
    return replace(task, device=device)


def made_and_restored(
    entry: Entry, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
) -> Any:
    """The algorithm of ``entry`` that was saved at ``path``, made again and restored; arguments as `Entry.load`.

    CheckpointError where the file does not fit.
    """
    path = checkpoint_at(path)
    state, header = load_object(path, "agent")
    if header.name != entry.name:
        raise CheckpointError(
            f"{path} holds {header.name!r}, but {entry.name!r} was to be loaded. Load it as what saved it."
        )
    task = saved_task(header, env_kwargs, device, path)
    try:
        run: Any = entry.make(task, int(header.extra["seed"]), header.config, tensorboard_log)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"The header of {path} does not fit {entry.name} ({error}). Give the checkpoint of a training run."
        ) from error
    run.restore(state, path)
    if "dataset" not in (env_kwargs or {}):
        compare_data(header, run.dataset, path)
    return run
