"""Saving and loading of agents: the state for a bit-exact resume, and the JSON header it is built again from."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from agents.core.headers import AgentRecord, check_env_id, check_sizes, refuse_paths, stored
from agents.core.logs import checked_log
from agents.core.ranks import ALONE, RankLost, Ranks
from diffusion_env.checkpoints import (
    CheckpointError,
    Header,
    load_module,
    load_object,
    load_optimizer,
    numbers_in,
    save_object,
    with_suffix,
)
from diffusion_env.fields import checked_counts, from_json
from diffusion_env.networks.layers import weights_at_most

A = TypeVar("A")

CHECKPOINT = "checkpoint.safetensors"
"""The newest complete state in the folder of a run."""
DIGEST_POINTS = 4096
DIGEST_VALUES = 2**20

_REPORTED = ("torch", "gymnasium", "stable-baselines3", "numpy", "scipy", "scikit-learn", "safetensors", "pot")


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries a result depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _REPORTED}}


def checkpoint_at(path: str | Path) -> Path:
    """The file that is loaded for ``path``: the checkpoint in the folder of a run, or as `saved_at`."""
    return Path(path) / CHECKPOINT if Path(path).is_dir() else saved_at(path)


def saved_at(path: str | Path) -> Path:
    """NAME.safetensors for NAME.zip, which stable-baselines3's callbacks save to; any other path as it is."""
    path = Path(path)
    return path.with_suffix(".safetensors") if path.suffix == ".zip" else path


def data_digest(dataset: Any) -> str:
    """What tells one set of training data from another: SHA-256 of its size, its scale and at most `DIGEST_POINTS`
    points, of at most `DIGEST_VALUES` values in all, at equal distances in it."""
    most = max(1, min(DIGEST_POINTS, DIGEST_VALUES // math.prod(dataset.shape)))
    every = max(1, len(dataset.train) // most)
    points = dataset.train[: every * most : every]
    described = f"{tuple(dataset.train.shape)} {dataset.scale} {dataset.center.flatten().tolist()}"
    return hashlib.sha256(described.encode() + points.numpy(force=True).tobytes()).hexdigest()


def compare_data(header: Header, dataset: Any, path: str | Path) -> None:
    """Warn where ``dataset`` is not the one that the file at ``path`` was trained on."""
    recorded = header.extra.get("data")
    if recorded is not None and recorded != data_digest(dataset):
        warnings.warn(
            f"The data set {dataset.name!r} holds other points than when {path} was saved: what is trained from here "
            "on, and every measurement, is of the new ones.",
            stacklevel=2,
        )


def save_agent(agent: Any, path: str | Path) -> Path:
    """Write ``agent`` to one file; see `agents.core.ipm_agent.IPMAgent.save`.

    All ranks call it: each gives its part of the environments, the first one writes, and the others wait for the file.
    """
    state = agent_state(agent)
    if agent.ranks.rank == 0:
        save_object(saved_at(path), agent_header(agent), state)
    agent.ranks.agree(True)
    return with_suffix(saved_at(path))


def load_agent(
    cls: type[A],
    path: str | Path,
    env_kwargs: Mapping[str, Any] | None,
    tensorboard_log: str | Path | None,
    device: str | torch.device,
    num_envs: int | None = None,
    changes: Mapping[str, Any] | None = None,
    trust_paths: bool = False,
) -> A:
    """The agent of ``cls`` saved at ``path``; CheckpointError for a file that holds anything else.

    The header names no module: the class is the one given, and nothing is imported for a file. ``num_envs`` and
    ``changes`` of the configuration replace what was saved; ValueError names what the configuration has not.
    """
    agent_class: Any = cls
    path = checkpoint_at(path)
    state, header = load_object(path, "agent", device)
    if header.name != agent_class.name:
        raise CheckpointError(
            f"{path} holds {header.name!r}, but a {agent_class.name!r} was to be loaded. Load it with the class that "
            "saved it."
        )
    try:
        config = from_json(agent_class.config_class, header.config, f"the configuration in {path}")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{error} Load it with the class and the version that saved it.") from error
    config = changed(config, changes or {})
    saved = stored(AgentRecord, header.extra, path)
    check_env_id(saved.env_id, path)
    check_sizes([header.config, header.extra], state, path)
    if not trust_paths:
        refuse_paths(saved.env_kwargs, env_kwargs, path)
    env_kwargs = saved_env_kwargs(header, env_kwargs, path)
    wanted = saved.num_envs if num_envs is None else num_envs
    try:
        with weights_at_most(numbers_in(state)):
            agent = agent_class(saved.env_id, config, wanted, env_kwargs, saved.seed, tensorboard_log, device)
    except (CheckpointError, RankLost):
        raise
    except Exception as error:  # what is wrong with a forged header shows in many ways
        raise CheckpointError(f"The agent in {path} cannot be made from its header: {error}") from error
    if wanted != saved.num_envs:
        warnings.warn(
            f"{path} was saved with num_envs={saved.num_envs}: with {wanted} the episodes begin anew.", stacklevel=3
        )
    same_envs = (wanted, agent.ranks.size) == (saved.num_envs, saved.ranks)
    restore_agent(agent, state, path, same_envs, changed_config=bool(changes))
    agent.saved_ranks = saved.ranks
    if env_kwargs.get("dataset") == saved.env_kwargs.get("dataset"):
        compare_data(header, agent.dataset, path)
    loaded: A = agent
    return loaded


def changed(config: Any, changes: Mapping[str, Any]) -> Any:
    """The configuration with ``changes`` of its fields; ValueError for a name that is none of them."""
    names = [f.name for f in fields(config)]
    if unknown := sorted(set(changes) - set(names)):
        raise ValueError(
            f"load cannot change {unknown}. Beside env_kwargs, tensorboard_log, device and num_envs it changes the "
            f"fields of {type(config).__name__}: {sorted(names)}."
        )
    return replace(config, **changes)


def agent_header(agent: Any) -> Header:
    """What is needed to build the agent again, and what it was made with."""
    kept = {key: value for key, value in agent.env_kwargs.items() if _is_json(value)}
    kept |= {key: str(value) for key, value in agent.env_kwargs.items() if isinstance(value, Path)}
    extra = {
        "env_id": agent.env_id,
        "num_envs": agent.num_envs,
        "env_kwargs": kept,
        "env_objects": sorted(set(agent.env_kwargs) - set(kept)),
        "seed": agent.seed,
        "ranks": agent.ranks.size,
        "data": data_digest(agent.dataset),
        "versions": versions(),
    }
    return Header("agent", agent.name, asdict(agent.config), extra)


def agent_state(agent: Any) -> dict[str, Any]:
    """Everything that a bit-exact resume needs: the agent's parts, critic, environments, generators and counters."""
    evaluations = [agent.policy.num_evaluations, agent.reference.num_evaluations]
    return {
        "algorithm": {name: part.state_dict() for name, part in agent.parts.items()} | {"evaluations": evaluations},
        "critic": agent.critic.state_dict(),
        "envs": of_all_ranks(agent.envs.state_dict(), agent.ranks.gather),
        "next_start": None if agent.next_start is None else agent.ranks.gather(agent.next_start),
        "generators": [generator.get_state() for generator in agent.generators],
        "counters": [agent.num_timesteps, agent.iteration, agent.total_timesteps],
        "log": agent.logged,
    }


def restore_agent(
    agent: Any, state: Any, path: str | Path, same_envs: bool = True, changed_config: bool = False
) -> None:
    """Put the ``agent_state`` read from ``path`` back; CheckpointError where it is another agent's, or no agent's.

    Without ``same_envs`` the environments stay as they are and begin new episodes; with ``changed_config`` the
    optimizers keep the agent's own settings and take the moments alone.
    """
    try:
        if changed_config:
            for name, part in agent.parts.items():
                if isinstance(part, torch.optim.Optimizer):
                    for own, saved in zip(part.param_groups, state["algorithm"][name]["param_groups"], strict=True):
                        saved.update({key: value for key, value in own.items() if key in saved and key != "params"})
        for name, part in agent.parts.items():
            restore_part(part, state["algorithm"][name], f"The {name} in {path}")
        evaluations, counters = checked_counts(state["algorithm"]["evaluations"]), checked_counts(state["counters"])
        agent.policy.num_evaluations, agent.reference.num_evaluations = evaluations
        load_module(agent.critic, state["critic"], f"The critic in {path}")
        if same_envs:
            agent.envs.load_state_dict(of_all_ranks(state["envs"], agent.ranks.own))
        agent.next_start = next_start(state, agent.envs, agent.ranks) if same_envs else None
        for generator, saved in zip(agent.generators, state["generators"], strict=True):
            generator.set_state(saved.cpu())
        agent.num_timesteps, agent.iteration, agent.total_timesteps = counters
        agent.loaded_log = checked_log(state.get("log"))
    except Exception as error:  # what is wrong with a forged state shows in many ways
        raise CheckpointError(
            f"{path} does not fit this agent ({error}). It was saved with another data shape, number of steps or "
            "network; load it with the env_kwargs it was trained with."
        ) from error


def of_all_ranks(state: Mapping[str, Any], change: Callable[[Tensor, int], Tensor]) -> dict[str, Any]:
    """The ``state`` of environments with every array that counts them changed: by ``change(array, dim)``, which gathers
    the parts of all ranks or takes this rank's own; arrays of any shape."""
    dims = {"x": 0, "k": 0, "states": 1}
    return {
        key: change(state[key], dims[key]) if key in dims and state[key] is not None else state[key] for key in state
    }


def next_start(state: Mapping[str, Any], envs: Any, ranks: Ranks = ALONE) -> Tensor | None:
    """Where the next rollout of a saved agent begins, (B, *shape), None inside one; ValueError for anything else."""
    start, x = state["next_start"], envs.process.x
    start = ranks.own(start) if isinstance(start, Tensor) and start.ndim else start
    if start is not None and not (isinstance(start, Tensor) and (start.shape, start.dtype) == (x.shape, x.dtype)):
        raise ValueError(f"its next start is no {x.dtype} tensor of shape {tuple(x.shape)}")
    return start


def restore_part(part: Any, state: Any, what: str) -> None:
    """Put the ``state`` of one of the agent's parts back; CheckpointError, which says ``what`` it is, where it differs.

    Networks and optimizers are compared with it first; a part of another kind checks its state itself.
    """
    if isinstance(part, torch.nn.Module):
        load_module(part, state, what)
    elif isinstance(part, torch.optim.Optimizer):
        load_optimizer(part, state, what)
    else:
        part.load_state_dict(state)


def saved_env_kwargs(header: Header, given: Mapping[str, Any] | None, path: str | Path) -> dict[str, Any]:
    """The saved keywords with ``given`` over them; CheckpointError if one that was an object is missing."""
    missing = sorted(set(header.extra["env_objects"]) - set(given or {}))
    if missing:
        raise CheckpointError(
            f"{path} was trained with env_kwargs that are objects and could not be saved: {missing}. Pass them again: "
            f"load(path, env_kwargs=dict({missing[0]}=...))."
        )
    return {**header.extra["env_kwargs"], **(given or {})}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
