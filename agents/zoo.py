"""Any algorithm by name: ours, stable-baselines3's, the untouched sampler, and what a user's file holds.

`find` gives one `Entry` per algorithm, which makes it for a task; nobody outside asks whose it is. Ours come from
tables. Anything else comes from what the user gives in the call, ``"module:Class"`` or the object itself, and never
from a name that a file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import isclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from agents.algorithms.entry import OwnEntry
from agents.algorithms.presets import AGENTS, PRESETS
from agents.core.algorithm import Changes, Entry
from agents.core.headers import named_paths, task_keywords
from agents.core.ipm_agent import IPMAgent
from agents.core.persistence import checkpoint_at
from agents.runs.folder import believed_paths
from agents.runs.function import FunctionEntry
from agents.runs.untouched import Untouched
from agents.sb3.entry import SB3Entry
from agents.sb3.registry import SB3_ALGORITHMS, preset_of
from diffusion_env.checkpoints import CheckpointError, load_object

UNTOUCHED = Untouched.name
NAMES = (*PRESETS, *SB3_ALGORITHMS, UNTOUCHED)
"""Every name that `find` knows."""


def find(algo: str | type | Callable[..., Any]) -> Entry:
    """The algorithm called ``algo``: a name of `NAMES`, ``"module:Class"`` or ``"module:function"``, or the object.

    Raises ValueError for an unknown name, which lists those there are, and for an object that is no algorithm;
    ImportError for a module that cannot be imported.
    """
    if not isinstance(algo, str):
        return _entry_of(algo)
    if algo in PRESETS:
        preset = PRESETS[algo]
        return OwnEntry(algo, preset.source, agent_class(preset.agent), preset.config)
    if algo in SB3_ALGORITHMS:
        return SB3Entry(algo, str(SB3_ALGORITHMS[algo].home), SB3_ALGORITHMS[algo])
    if algo == UNTOUCHED:
        return FunctionEntry(algo, "the pretrained sampler", None)
    if ":" in algo:
        return _entry_of(_imported(algo))
    raise ValueError(
        f"Unknown algorithm {algo!r}. Choose one of {list(NAMES)}, or give your own as 'module:Class' or "
        "'module:function'."
    )


def load_agent(
    path: str | Path,
    device: str | torch.device = "cpu",
    algorithms: Iterable[str | type | Callable[..., Any]] = (),
    env_kwargs: Changes | None = None,
    tensorboard_log: str | Path | None = None,
    trust_paths: bool = False,
) -> Any:
    """The `Algorithm` saved at ``path``, a file or the folder of a run, ready to sample or to go on with ``resume``.

    ``algorithms``: your own, which the file may hold: classes, functions, or their "module:name". A name in the file
    that is neither one of ours nor among them is never imported. ``env_kwargs``: keywords of the task to replace;
    those that were objects (a Dataset, a Critic) must be given again. ``trust_paths``: read the data set, network and
    critic at the paths that the file names. Without it they must be given again, except in the folder of a run, whose
    config.json names the same paths: it holds the command line that the run was made with, so load no such folder of
    somebody you do not trust.

    Raises CheckpointError for a file that holds no algorithm, or one that is not known here.
    """
    folder, path = Path(path), checkpoint_at(path)
    header = load_object(path, "agent")[1]
    name = header.name
    own = (
        named_paths(task_keywords(header)) if trust_paths else believed_paths(folder, header) if folder.is_dir() else {}
    )
    env_kwargs = {**own, **(env_kwargs or {})}
    if name in NAMES:
        return find(name).load(path, str(device), env_kwargs, tensorboard_log)
    given = [find(one) for one in algorithms]
    found = next((entry for entry in given if entry.name == name), None)
    if found is None:
        raise CheckpointError(
            f"{path} holds the algorithm {name!r}, which is none of {list(NAMES)}"
            + (f" nor of those given, {[entry.name for entry in given]}" if given else "")
            + f". A file never makes us import what it names: give your class or function in this call, with `--algo "
            f"my_file:{name}` or load_agent(path, algorithms=[{name}])."
        )
    return found.load(path, str(device), env_kwargs, tensorboard_log)


def _imported(algo: str) -> Any:
    module, _, name = algo.partition(":")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The module of {algo!r} was not found ({error}). Give the name of a .py file in this folder or of an "
            "installed package, then a colon and the class or function in it."
        ) from error
    if not hasattr(found, name):
        raise ValueError(f"The module {module!r} has no {name!r}, which {algo!r} asks for.")
    return getattr(found, name)


def _entry_of(algorithm: Any) -> Entry:
    """The entry of a class or function."""
    name = getattr(algorithm, "__name__", type(algorithm).__name__)
    if isclass(algorithm) and issubclass(algorithm, IPMAgent):
        name = getattr(algorithm, "name", name)
        known = name in AGENTS and agent_class(name) is algorithm
        entry: Entry = OwnEntry(name, _home(algorithm), algorithm, algorithm.default_config())
    elif isclass(algorithm) and issubclass(algorithm, BaseAlgorithm):
        known, entry = False, SB3Entry(name, _home(algorithm), preset_of(algorithm))
    elif callable(algorithm) and not isclass(algorithm):
        known, entry = False, FunctionEntry(name, _home(algorithm), algorithm)
    else:
        raise ValueError(
            f"{algorithm!r} is no algorithm. Give a subclass of agents.core.ipm_agent.IPMAgent, a class of "
            "stable-baselines3, or a function (task, total_timesteps, seed) -> sampler."
        )
    if name in (*NAMES, *AGENTS) and not known:
        raise ValueError(f"{_home(algorithm)} is called {name!r}, as one of ours is. Give it a name of its own.")
    return entry


def _home(algorithm: Any) -> str:
    return f"{algorithm.__module__}:{getattr(algorithm, '__qualname__', type(algorithm).__name__)}"


def agent_class(name: str) -> type[IPMAgent]:
    """The class of the agent called ``name``; ValueError lists the names there are."""
    if name not in AGENTS:
        raise ValueError(f"Unknown agent {name!r}. Choose one of {list(AGENTS)}.")
    module, class_name = AGENTS[name].split(":")
    found: Any = getattr(import_module(module), class_name)
    return found
