"""The loop around ``iterate``: callbacks, stop, the log and the state that is kept when a number is not finite.

Callbacks, logger and progress bar are stable-baselines3's and used as they are. What the loop asks of an agent is
`Learner`; one iteration of the algorithm is the agent's own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.utils import get_latest_run_id
from torch import Tensor

from agents.core.ranks import Ranks
from agents.core.sanity import SanityChecks

MaybeCallback = BaseCallback | Sequence[BaseCallback] | None
Metrics = Mapping[str, float | Tensor]


class StopTraining(Exception):
    """A callback asked to stop."""


class Learner(Protocol):
    """What the loop asks of an agent."""

    num_timesteps: int
    iteration: int
    total_timesteps: int
    next_start: Tensor | None
    callbacks: BaseCallback
    sanity: SanityChecks
    ranks: Ranks

    @property
    def logger(self) -> Logger:
        """Where metrics go."""

    def iterate(self) -> dict[str, float | Tensor]:
        """One iteration of the algorithm; returns its metrics, each a scalar."""

    def restart(self) -> None:
        """Begin new episodes if a rollout was interrupted."""

    def diagnostics(self) -> dict[str, float]:
        """Metrics that cost something: asked for when they are logged."""

    def save(self, path: str | Path) -> Path:
        """Write everything a resume needs."""


def prepare(
    agent: Learner,
    total_timesteps: int,
    callback: MaybeCallback = None,
    reset_num_timesteps: bool = True,
    progress_bar: bool = False,
) -> None:
    """Put counters, callbacks and episodes in place for ``total_timesteps`` more environment steps, at least 1."""
    if total_timesteps < 1:
        raise ValueError(f"total_timesteps must be at least 1 environment step; received {total_timesteps}.")
    if reset_num_timesteps:
        agent.num_timesteps = agent.iteration = 0
    agent.total_timesteps = agent.num_timesteps + total_timesteps
    agent.restart()
    callbacks = [callback] if isinstance(callback, BaseCallback) else list(callback or [])
    agent.callbacks = CallbackList(callbacks + [ProgressBarCallback()] * progress_bar)
    agent.callbacks.init_callback(agent)  # type: ignore[arg-type]  # an agent has what callbacks use of a BaseAlgorithm


def run(agent: Learner, log_interval: int) -> None:
    """Iterate until ``total_timesteps`` are done or a callback stops; log every ``log_interval`` iterations."""
    agent.callbacks.on_training_start({"self": agent, "total_timesteps": agent.total_timesteps}, globals())
    started, first = time.perf_counter(), agent.num_timesteps
    try:
        while agent.num_timesteps < agent.total_timesteps:
            agent.callbacks.on_rollout_start()
            try:
                metrics = agent.iterate()
            except FloatingPointError as error:
                raise FloatingPointError(f"{error} {_save_stopped(agent)}") from error
            agent.iteration += 1
            agent.callbacks.on_rollout_end()
            if agent.iteration % log_interval == 0:
                log(agent, metrics, fps=(agent.num_timesteps - first) / (time.perf_counter() - started))
    except StopTraining:
        pass
    finally:
        agent.callbacks.on_training_end()


def log(agent: Learner, metrics: Metrics, fps: float) -> None:
    """Write one line: ``metrics`` and diagnostics as means over the ranks, the checks on them, ``fps`` and counters."""
    found = {key: float(value) for key, value in {**metrics, **agent.diagnostics()}.items()}
    means = agent.ranks.mean(torch.tensor(list(found.values()), dtype=torch.float64)).tolist()
    everything = dict(zip(found, means, strict=True)) | {"time/fps": int(fps), "time/iterations": agent.iteration}
    everything |= agent.sanity(everything, agent.iteration)
    for key, value in everything.items():
        agent.logger.record(key, float(value))
    agent.logger.record("time/total_timesteps", agent.num_timesteps)
    agent.logger.dump(agent.num_timesteps)


def new_logger(folder: str | Path | None, run_name: str, ranks: Ranks) -> Logger:
    """A log for tensorboard and as JSON lines in a new folder ``run_name``_N inside ``folder``.

    It writes nothing where ``folder`` is None and on every rank but the first.
    """
    if folder is None or ranks.rank != 0:
        return Logger(folder=None, output_formats=[])
    number = get_latest_run_id(str(folder), run_name) + 1
    return configure(str(Path(folder) / f"{run_name}_{number}"), ["tensorboard", "json"])


def _save_stopped(agent: Learner) -> str:
    if agent.logger.dir is None:
        return "Nothing was saved: give tensorboard_log to have the state kept when this happens."
    path = agent.save(Path(agent.logger.dir) / "stopped")
    return f"The state at that moment is in {path}; the checkpoint before it is untouched."
