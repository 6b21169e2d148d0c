"""Any algorithm by name: ours, stable-baselines3's, the untouched sampler, and what a user's file holds.

`find` gives one `Entry` per algorithm, which makes it for a task; nobody outside asks whose it is. Ours come from
tables. Anything else comes from what the user gives in the call, ``"module:Class"`` or the object itself, and never
from a name that a file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from inspect import Parameter, isclass, signature
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import LinearSchedule

from agents.algorithms.presets import AGENTS, PRESETS
from agents.algorithms.spaces import agent_space
from agents.core.algorithm import Algorithm
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.spaces import Space, around
from agents.core.task import Task
from agents.runs.function import FunctionRun
from agents.runs.saving import saved_task
from agents.runs.untouched import Untouched
from agents.sb3.registry import SB3_ALGORITHMS, SB3Algorithm, build, keywords_of, preset_of
from agents.sb3.run import SB3Run
from diffusion_env import ENV_ID
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import CheckpointError, load_object

UNTOUCHED = Untouched.name
NAMES = (*PRESETS, *SB3_ALGORITHMS, UNTOUCHED)
"""Every name that `find` knows."""

Changes = Mapping[str, Any]
"""Hyper-parameters that differ from an algorithm's own, JSON values by name."""


@dataclass(frozen=True)
class OwnEntry:
    """An agent of this package or a subclass of `IPMAgent` of a user."""

    name: str
    """As tables and folders call it: the preset, or the name of the class."""
    source: str
    """Where it comes from."""
    agent: type[IPMAgent]
    config: AgentConfig
    """Its hyper-parameters before changes."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed, with its value before changes."""
        return asdict(self.config)

    def settings(self, changes: Changes) -> dict[str, Any]:
        """Every hyper-parameter with ``changes``, JSON; ValueError names unknown ones."""
        return asdict(self._config(changes))

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The agent, made for ``task`` with ``seed`` and ``changes`` of its hyper-parameters."""
        config, device = self._config(changes or {}), usable_device(task.device)
        return self.agent(ENV_ID, config, task.num_envs, task.env_kwargs, seed, tensorboard_log, device)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return self.agent.load(path, env_kwargs, tensorboard_log, device)

    def space(self, task: Task) -> Space:
        """What tuning may change for samplers of at most ``task.num_steps`` steps."""
        own: Space | None = getattr(self.agent, "space", None)
        return agent_space(self.config, task.num_steps, task.num_envs) if own is None else around([own], self.defaults)

    def _config(self, changes: Changes) -> AgentConfig:
        refuse_unknown(self.name, changes, self.defaults)
        return replace(self.config, **changes)


@dataclass(frozen=True)
class SB3Entry:
    """A class of stable-baselines3, of sb3-contrib, or of a user in their manner."""

    name: str
    """As tables and folders call it."""
    source: str
    """Where it comes from."""
    preset: SB3Algorithm

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed, with its value before changes."""
        return {**keywords_of(self.preset.load_class()), **self.settings({}, checked=False)}

    def settings(self, changes: Changes, checked: bool = True) -> dict[str, Any]:
        """What differs from the class's own defaults, JSON, with ``changes``; ValueError names unknown ones."""
        if checked:
            refuse_unknown(self.name, changes, self.defaults)
        preset = self.preset
        own = {"action_mode": preset.action_mode, "learning_rate": preset.learning_rate, **preset.hyperparameters}
        return {**own, **changes}

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The model in its environments, with the critic's schedule and a counter; the step size falls to zero."""
        keywords = dict(changes or {})
        self.settings(keywords)
        mode = keywords.pop("action_mode", self.preset.action_mode)
        if "learning_rate" in keywords:
            keywords["learning_rate"] = LinearSchedule(keywords["learning_rate"], 0.0, 1.0)
        log = None if tensorboard_log is None else str(tensorboard_log)
        usable_device(task.device)
        env_kwargs = {**task.env_kwargs, "action_mode": mode}
        model, env = build(self.preset, task.num_envs, env_kwargs, seed, task.device, log, keywords)
        return SB3Run(self.name, task, seed, dict(changes or {}), model, env)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return _made_and_restored(self, path, device, env_kwargs, tensorboard_log)

    def space(self, task: Task) -> Space:
        """What tuning may change."""
        return around([getattr(self.preset.home, "space", self.preset.space)], self.defaults)


@dataclass(frozen=True)
class FunctionEntry:
    """A function ``(task, total_timesteps, seed) -> sampler`` of a user, or the sampler that nobody trained."""

    name: str
    """As tables and folders call it."""
    source: str
    """Where it comes from."""
    function: Callable[..., Any] | None
    """None for the untouched sampler."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed: the function's keywords after its three arguments."""
        if self.function is None:
            return {}
        parameters = list(signature(self.function).parameters.values())[3:]
        return {p.name: p.default for p in parameters if p.default is not Parameter.empty}

    def settings(self, changes: Changes) -> dict[str, Any]:
        """Every hyper-parameter with ``changes``, JSON; ValueError names unknown ones."""
        refuse_unknown(self.name, changes, self.defaults)
        return {**self.defaults, **changes}

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The algorithm; before ``learn`` it is the untouched sampler."""
        settings = self.settings(changes or {})
        if self.function is None:
            return Untouched(task, seed, tensorboard_log)
        return FunctionRun(self.name, task, seed, self.function, settings, tensorboard_log)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return _made_and_restored(self, path, device, env_kwargs, tensorboard_log)

    def space(self, task: Task) -> Space:
        """What tuning may change: the function's attribute ``space``, nothing where it has none."""
        return around([getattr(self.function, "space", {})], self.defaults)


Entry = OwnEntry | SB3Entry | FunctionEntry


def find(algo: str | type | Callable[..., Any]) -> Entry:
    """The algorithm called ``algo``: a name of `NAMES`, ``"module:Class"`` or ``"module:function"``, or the object.

    Raises ValueError for an unknown name, which lists those there are, and for an object that is no algorithm;
    ImportError for a module that cannot be imported.
    """
    if not isinstance(algo, str):
        return _entry_of(algo)
    if algo in PRESETS:
        row = PRESETS[algo]
        return OwnEntry(algo, row.source, agent_class(row.agent), row.config)
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
) -> Any:
    """The algorithm saved at ``path``: an `Algorithm`, ready to sample or to go on with ``resume``.

    ``algorithms``: your own, which the file may hold: classes, functions, or their "module:name". A name in the file
    that is neither one of ours nor among them is never imported. ``env_kwargs``: keywords of the task to replace;
    those that were objects (a Dataset, a Critic) must be given again.

    Raises CheckpointError for a file that holds no algorithm, or one that is not known here.
    """
    name = load_object(path, "agent")[1].name
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


def _made_and_restored(
    entry: SB3Entry | FunctionEntry,
    path: str | Path,
    device: str,
    env_kwargs: Changes | None,
    tensorboard_log: str | Path | None,
) -> Any:
    state, header = load_object(path, "agent")
    task = saved_task(header, env_kwargs, device, path)
    try:
        run: Any = entry.make(task, int(header.extra["seed"]), header.config, tensorboard_log)
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"The header of {path} does not fit {entry.name} ({error}). Give the checkpoint of a training run."
        ) from error
    run.restore(state, path)
    return run


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


def refuse_unknown(name: str, changes: Changes, known: Mapping[str, Any]) -> None:
    """ValueError where ``changes`` names a hyper-parameter that is not ``known``."""
    if unknown := sorted(set(changes) - set(known)):
        raise ValueError(f"{name} has no hyper-parameter {unknown}. Choose from {sorted(known)}.")


def agent_class(name: str) -> type[IPMAgent]:
    """The class of the agent called ``name``; ValueError lists the names there are."""
    if name not in AGENTS:
        raise ValueError(f"Unknown agent {name!r}. Choose one of {list(AGENTS)}.")
    found: Any = getattr(import_module(f"agents.algorithms.{name}"), AGENTS[name])
    return found
