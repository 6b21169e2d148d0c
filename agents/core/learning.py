"""The loop around ``iterate``: callbacks, stop, the log and the state that is kept when a number is not finite.

Callbacks, logger and progress bar are stable-baselines3's and used as they are. What the loop asks of an agent is
`Learner`; one iteration of the algorithm is the agent's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, ProgressBarCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.utils import get_latest_run_id
from torch import Tensor

from agents.core.ranks import Ranks
from agents.core.sanity import SanityChecks

FunctionCallback = Callable[[dict[str, Any], dict[str, Any]], bool]
"""(locals, globals) -> whether to go on, after each step of the environments."""
MaybeCallback = BaseCallback | FunctionCallback | Sequence[BaseCallback | FunctionCallback] | None
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
    metrics: Metrics | None
    began: tuple[float, int]

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


def listed(callback: MaybeCallback) -> list[BaseCallback]:
    """The callbacks as stable-baselines3 has them: none, one or several, each an object or a plain function."""
    given = list(callback) if isinstance(callback, Sequence) else [] if callback is None else [callback]
    return [one if isinstance(one, BaseCallback) else ConvertCallback(one) for one in given]


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
    agent.callbacks = CallbackList(listed(callback) + [ProgressBarCallback()] * progress_bar)
    agent.callbacks.init_callback(agent)  # type: ignore[arg-type]  # an agent has what callbacks use of a BaseAlgorithm


def run(agent: Learner, log_interval: int | None) -> None:
    """Iterate until ``total_timesteps`` are done or a callback stops; log every ``log_interval`` iterations.

    None leaves logging to callbacks (`log`).
    """
    agent.callbacks.on_training_start({"self": agent, "total_timesteps": agent.total_timesteps}, globals())
    agent.began, agent.metrics = (time.perf_counter(), agent.num_timesteps), None
    try:
        while agent.num_timesteps < agent.total_timesteps:
            agent.callbacks.on_rollout_start()
            try:
                agent.metrics = agent.iterate()
            except FloatingPointError as error:
                raise FloatingPointError(f"{error} {_save_stopped(agent)}") from error
            agent.iteration += 1
            agent.callbacks.on_rollout_end()
            if log_interval is not None and agent.iteration % log_interval == 0:
                log(agent)
    except StopTraining:
        pass
    finally:
        agent.callbacks.on_training_end()


def log(agent: Learner) -> None:
    """Write one line: the newest metrics and diagnostics as means over the ranks, the checks on them, and counters.

    Before the end of the first iteration there are counters alone.
    """
    found = {} if agent.metrics is None else {**agent.metrics, **agent.diagnostics()}
    numbers = torch.tensor([float(value) for value in found.values()], dtype=torch.float64)
    everything = dict(zip(found, agent.ranks.mean(numbers).tolist(), strict=True))
    everything |= agent.sanity(everything, agent.iteration)
    seconds, done = time.perf_counter() - agent.began[0], agent.num_timesteps - agent.began[1]
    everything |= {"time/fps": int(done / seconds), "time/time_elapsed": int(seconds)}
    everything["time/iterations"] = agent.iteration
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


def told(callbacks: BaseCallback, ended: bool, reward: Tensor, num_steps: int) -> bool:
    """Tell ``callbacks`` of a step of all environments with ``reward`` (B,), see `step_locals`; False to stop.

    Where there are none, nothing is made for them, and the rewards stay on their device.
    """
    if isinstance(callbacks, CallbackList) and not callbacks.callbacks:
        return True
    callbacks.update_locals(step_locals(ended, reward, num_steps))
    return callbacks.on_step()


def step_locals(ended: bool, reward: Tensor, num_steps: int) -> dict[str, Any]:
    """What stable-baselines3's callbacks find in ``locals`` after a step of all environments, with ``reward`` (B,).

    All episodes of ``num_steps`` steps end together; until then every reward is 0.
    """
    infos: list[dict[str, Any]] = [{} for _ in range(len(reward))]
    dones = np.full(len(reward), ended)
    if not ended:
        return {"dones": dones, "rewards": np.zeros(len(reward), np.float32), "infos": infos}
    rewards = reward.numpy(force=True)
    for info, one in zip(infos, rewards.tolist(), strict=True):
        info["episode"] = {"r": one, "l": num_steps}
    return {"dones": dones, "rewards": rewards, "infos": infos}


def _save_stopped(agent: Learner) -> str:
    folder = agent.logger.dir  # of the rank that writes
    if agent.ranks.highest(int(folder is not None)) == 0:
        return "Nothing was saved: give tensorboard_log to have the state kept when this happens."
    path = agent.save(Path(folder or "") / "stopped")
    return f"The state at that moment is in {path}; the checkpoint before it is untouched."
