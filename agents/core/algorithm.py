"""What an algorithm is to everything around it, whoever wrote it: the protocol, and callbacks that watch one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from torch import Tensor

from agents.core.learning import MaybeCallback, listed
from agents.core.ranks import ALONE, Ranks
from agents.core.spaces import Space
from agents.core.task import Task
from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset

SeededSample = Callable[[int, int], Tensor]
"""(n, seed) -> n samples (n, *shape) in data units."""


class Algorithm(Protocol):
    """An algorithm made for a task with a seed; `agents.zoo` makes any of them by name."""

    @property
    def name(self) -> str:
        """As the zoo and a checkpoint's header call it."""

    @property
    def task(self) -> Task:
        """What it is trained on."""

    @property
    def seed(self) -> int:
        """Of everything in training."""

    @property
    def dataset(self) -> Dataset:
        """The data of the task."""

    @property
    def critic(self) -> Critic | None:
        """The reward it was trained with, as it is now; None where it has none to show."""

    @property
    def num_timesteps(self) -> int:
        """Environment steps done."""

    @property
    def logged(self) -> Mapping[str, Any] | None:
        """`agents.core.logs.log_state` of the present logger; before there is one, of the file that was loaded."""

    @property
    def iteration_timesteps(self) -> int:
        """Environment steps of an iteration, between two ``on_rollout_start`` of its callbacks."""

    @property
    def network_evaluations(self) -> int | None:
        """Evaluations of the networks that make a step, one per state, in training so far; None where unknown."""

    @property
    def logger(self) -> Logger:
        """Where metrics go."""

    def set_logger(self, logger: Logger) -> None:
        """Send metrics to ``logger`` from now on."""

    def learn(self, total_timesteps: int, callback: MaybeCallback = None, log_interval: int = 10) -> Any:
        """Train for ``total_timesteps`` environment steps; the last iteration is finished. Metrics every so many."""

    def resume(self, callback: MaybeCallback = None, log_interval: int = 10) -> Any:
        """Do what is left of the ``learn`` that the loaded file was saved in."""

    def sample(self, n: int, seed: int) -> Tensor:
        """n samples (n, *shape) in data units, the same for the same seed."""

    def evaluate(self, config: EvaluationConfig | None = None) -> dict[str, Any]:
        """The metrics of `diffusion_env.evaluation.protocol.evaluate`, in data units, of the current sampler."""

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, which `agents.zoo.load_agent` reads."""


Changes = Mapping[str, Any]
"""Hyper-parameters that differ from an algorithm's own, JSON values by name."""


class Entry(Protocol):
    """An algorithm before it is made: what `agents.zoo.find` gives."""

    @property
    def name(self) -> str:
        """As tables, folders and checkpoints call it."""

    @property
    def source(self) -> str:
        """Where it comes from: a paper, or "module:Class"."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed, with its value before changes."""

    def settings(self, changes: Changes) -> dict[str, Any]:
        """The hyper-parameters with ``changes``, JSON, as results record them; ValueError names unknown ones."""

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The algorithm for ``task``, with ``changes`` of its hyper-parameters; errors as `settings`."""

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """What was saved at ``path``; see `agents.zoo.load_agent`."""

    def space(self, task: Task) -> Space:
        """What tuning may change for samplers of at most ``task.num_steps`` steps."""


def refuse_unknown(name: str, changes: Changes, known: Mapping[str, Any]) -> None:
    """ValueError where ``changes`` names a hyper-parameter that is not ``known``."""
    if unknown := sorted(set(changes) - set(known)):
        raise ValueError(f"{name} has no hyper-parameter {unknown}. Choose from {sorted(known)}.")


class AlgorithmCallback(BaseCallback):
    """A callback that watches an `Algorithm`: the one it was bound to, or else the model it was given to."""

    _algorithm: Algorithm | None = None

    @property
    def algorithm(self) -> Algorithm:
        """What is trained."""
        return cast(Algorithm, self.model) if self._algorithm is None else self._algorithm

    @property
    def ranks(self) -> Ranks:
        """The processes that train it together; one for an algorithm that knows of no others."""
        return cast(Ranks, getattr(self.algorithm, "ranks", ALONE))

    def bind(self, algorithm: Algorithm) -> None:
        """Watch ``algorithm``, whose ``learn`` gives the callback to a model inside."""
        self._algorithm = algorithm

    def _on_step(self) -> bool:
        return True


def bound(callback: MaybeCallback, algorithm: Algorithm) -> list[BaseCallback]:
    """The callbacks as a list, those that watch an algorithm bound to this one."""
    callbacks = listed(callback)
    for one in callbacks:
        if isinstance(one, AlgorithmCallback):
            one.bind(algorithm)
    return callbacks


def seeded(sample: SeededSample) -> Callable[[int, torch.Generator], Tensor]:
    """``sample`` as a function of n and a generator, which draws the seed; samples (n, *shape)."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return sample(n, int(torch.randint(2**31, (), generator=generator, device=generator.device)))

    return draw
