"""An algorithm of stable-baselines3 as an `agents.core.algorithm.Algorithm`: model, environments, critic, counter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import Tensor

from agents.core.algorithm import MaybeCallback, bound, seeded
from agents.core.logs import checked_log, log_state
from agents.core.persistence import saved_at
from agents.core.sanity import with_warning
from agents.core.task import Task
from agents.runs.saving import run_header
from agents.sb3.callbacks import CriticSchedule
from agents.sb3.counting import NetworkEvaluations
from agents.sb3.samplers import sb3_sampler
from agents.sb3.saving import checked_random_state, model_state, random_state, restore_model, set_random_state
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.checkpoints import CheckpointError, save_object
from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import evaluate
from diffusion_env.fields import checked_counts


class SB3Run:
    """``model`` in ``env``, trained beside a critic whose step size falls as the agents' does."""

    def __init__(
        self,
        name: str,
        task: Task,
        seed: int,
        changes: Mapping[str, Any],
        model: BaseAlgorithm,
        env: DDPMShortcutVecEnv,
    ) -> None:
        self.name, self.task, self.seed, self.changes = name, task, seed, changes
        self.model, self.env = model, env
        self.counter = NetworkEvaluations(model)
        self._sample = sb3_sampler(model)
        self._loaded_log: Mapping[str, Any] | None = log_state(None)
        self._random_state: Mapping[str, Any] | None = None  # of a loaded run, until it goes on

    @property
    def dataset(self) -> Dataset:
        """The data of the task."""
        return self.env.dataset

    @property
    def critic(self) -> Critic:
        """The reward, as it is now."""
        return self.env.critic

    @property
    def num_timesteps(self) -> int:
        """Environment steps done."""
        return self.model.num_timesteps

    @property
    def iteration_timesteps(self) -> int:
        """Environment steps of a rollout, between two trainings of the model."""
        if isinstance(self.model, OnPolicyAlgorithm):
            return self.model.n_steps * self.env.num_envs
        assert isinstance(self.model, OffPolicyAlgorithm)
        frequency, unit = self.model.train_freq  # type: ignore[misc]  # SB3 makes a pair of what it was given
        steps = 1 if unit is TrainFrequencyUnit.STEP else self.env.table.num_steps
        return frequency * steps * self.env.num_envs

    @property
    def network_evaluations(self) -> int:
        """Of the actor and, in "residual" mode, of the pretrained network, in training so far."""
        return int(self.counter)

    @property
    def logger(self) -> Logger:
        """stable-baselines3's logger; present once ``learn`` or ``set_logger`` was called."""
        return self.model.logger

    def set_logger(self, logger: Logger) -> None:
        """Send metrics to ``logger`` from now on."""
        self.model.set_logger(logger)

    @property
    def logged(self) -> Mapping[str, Any] | None:
        """`agents.core.logs.log_state` of the present logger; before there is one, of the file that was loaded."""
        return log_state(self.model.logger) if hasattr(self.model, "_logger") else self._loaded_log

    def learn(self, total_timesteps: int, callback: MaybeCallback = None, log_interval: int = 10) -> SB3Run:
        """Train for ``total_timesteps`` environment steps; ``log_interval`` counts iterations."""
        self.model.learn(total_timesteps, [CriticSchedule(), *bound(callback, self)], self._in_its_unit(log_interval))
        return self

    def resume(self, callback: MaybeCallback = None, log_interval: int = 10) -> SB3Run:
        """Do what is left of the ``learn`` that a loaded run was saved in; its weights are exact on the CPU."""
        left = self.model._total_timesteps - self.num_timesteps
        if left > 0:
            if self._random_state is not None:
                set_random_state(self._random_state)
                self._random_state = None
            callbacks = [CriticSchedule(), *bound(callback, self)]
            self.model.learn(left, callbacks, self._in_its_unit(log_interval), reset_num_timesteps=False)
        return self

    def _in_its_unit(self, log_interval: int) -> int:
        """Iterations as SB3 counts them for its log: rollouts on-policy, ended episodes off-policy."""
        if isinstance(self.model, OnPolicyAlgorithm):
            return log_interval
        return max(1, log_interval * self.iteration_timesteps // self.env.table.num_steps)

    def sample(self, n: int, seed: int) -> Tensor:
        """n samples (n, *shape) in data units, by the policy as it acts in training; RuntimeWarning where some are not
        finite."""
        with self.counter.paused():
            return with_warning(self._sample(n, seed))

    def evaluate(self, config: EvaluationConfig | None = None) -> dict[str, Any]:
        """The metrics of `diffusion_env.evaluation.protocol.evaluate`, in data units."""
        return evaluate(seeded(self.sample), self.dataset, config)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with everything that `resume` needs, atomically; no pickle.

        Exact between rollouts: after ``learn``, and from a callback's ``on_rollout_start``.
        """
        counts = [self.counter.actor, self.counter.denoiser]
        random = random_state() if self._random_state is None else self._random_state
        state = {"model": model_state(self.model, self.env), "counts": counts, "random": random, "log": self.logged}
        header = run_header(self.name, self.task, self.seed, self.changes, self.dataset)
        return save_object(saved_at(path), header, state)

    def restore(self, state: Mapping[str, Any], path: str | Path) -> None:
        """Put back what ``save`` wrote to ``path``; CheckpointError where it does not fit this run."""
        try:
            restore_model(self.model, self.env, state["model"])
            self.counter.actor, self.counter.denoiser = checked_counts(state["counts"])
            self._random_state, self._loaded_log = checked_random_state(state["random"]), checked_log(state.get("log"))
        except Exception as error:  # what is wrong with a forged state shows in many ways
            raise CheckpointError(
                f"{path} does not fit this {self.name} ({error}). It was saved with another class, data shape or "
                "number of steps; load it with the class and the task it was trained with."
            ) from error
