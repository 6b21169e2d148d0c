"""Headers of saved algorithms that are no agents of `agents.core`: the task, the seed, the changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.core.algorithm import Changes, Entry
from agents.core.headers import RunRecord, check_sizes, refuse_paths, stored
from agents.core.persistence import checkpoint_at, compare_data, data_digest, versions
from agents.core.task import Task
from diffusion_env.checkpoints import CheckpointError, Header, load_object, numbers_in
from diffusion_env.data.dataset import Dataset
from diffusion_env.networks.layers import MOST_WEIGHTS, weights_at_most


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
    saved = stored(RunRecord, header.extra, path)
    missing = sorted(set(saved.task_objects) - set(given or {}))
    refuse_paths(saved.task, given, path)
    try:
        task = None if missing else Task.from_json(saved.task, **(given or {}))
    except (TypeError, ValueError) as error:
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
    entry: Entry,
    path: str | Path,
    device: str,
    env_kwargs: Changes | None,
    tensorboard_log: str | Path | None,
    makes_envs: bool = False,
) -> Any:
    """The algorithm of ``entry`` that was saved at ``path``, made again and restored; arguments as `Entry.load`.

    ``makes_envs``: whether it makes the task's environments and critic, whose sizes are then compared with the file.

    CheckpointError where the file does not fit.
    """
    path = checkpoint_at(path)
    state, header = load_object(path, "agent")
    if header.name != entry.name:
        raise CheckpointError(
            f"{path} holds {header.name!r}, but {entry.name!r} was to be loaded. Load it as what saved it."
        )
    task = saved_task(header, env_kwargs, device, path)
    check_sizes([header.config, header.extra if makes_envs else None], state, path)
    try:
        with weights_at_most(numbers_in(state) if makes_envs else MOST_WEIGHTS):
            run: Any = entry.make(task, header.extra["seed"], header.config, tensorboard_log)
    except CheckpointError:
        raise
    except Exception as error:  # what is wrong with a forged header shows in many ways
        raise CheckpointError(
            f"The header of {path} does not fit {entry.name} ({error}). Give the checkpoint of a training run."
        ) from error
    run.restore(state, path)
    if (env_kwargs or {}).get("dataset", header.extra["task"].get("dataset")) == header.extra["task"].get("dataset"):
        compare_data(header, run.dataset, path)
    return run
