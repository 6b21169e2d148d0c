"""What every agent shares: the environment, the loop around ``iterate``, and the six verbs.

The verbs are stable-baselines3's (learn, predict, evaluate, save, load) plus ``sample``; its callbacks, logger and
progress bar are used as they are. An algorithm adds its networks and ``iterate``: one iteration, in the paper's order.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ProgressBarCallback
from stable_baselines3.common.logger import Logger, configure
from stable_baselines3.common.utils import get_latest_run_id
from torch import Tensor

from agents.core.persistence import agent_header, agent_state, read_agent, restore_agent, saved_env_kwargs
from agents.core.policy import DenoisingPolicy
from agents.core.rollout import make_envs, required_denoiser
from agents.core.sanity import SanityChecks
from diffusion_env import ENV_ID
from diffusion_env.checkpoints import save_object
from diffusion_env.evaluation.protocol import EvaluationConfig, evaluate
from diffusion_env.samplers.walk import sample
from diffusion_env.vector_env import DDPMShortcutVectorEnv

MaybeCallback = BaseCallback | Sequence[BaseCallback] | None


class StopTraining(Exception):
    """A callback asked to stop."""


class Agent(ABC):
    """An algorithm that trains the sampler of a `DDPMShortcutVectorEnv`."""

    name: ClassVar[str]
    config_class: ClassVar[type]
    policy: DenoisingPolicy

    def __init__(
        self,
        env_id: str = ENV_ID,
        config: Any = None,
        num_envs: int = 128,
        env_kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
        tensorboard_log: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Make the environment and the networks.

        ``config``: the algorithm's frozen dataclass, None for its defaults. ``num_envs``: B, trajectories per
        rollout. ``env_kwargs``: keywords of the environment (dataset, num_steps, sampler, denoiser, critic, ...);
        its action mode must be "step" and its critic is trained by the algorithm, in the algorithm's order.
        ``seed``: of everything; None draws one. ``tensorboard_log``: a folder; runs are numbered inside it.
        Raises ValueError where the data set has no pretrained denoiser.
        """
        self.env_id, self.num_envs, self.device = env_id, num_envs, torch.device(device)
        self.config = self.default_config() if config is None else config
        self.env_kwargs = dict(env_kwargs or {})
        self.seed = int.from_bytes(os.urandom(4), "little") >> 1 if seed is None else seed
        self.tensorboard_log = tensorboard_log
        self.envs = make_envs(env_id, num_envs, self.env_kwargs, self.device)
        self.pretrained = required_denoiser(self.envs)
        self.generator = torch.Generator(self.device).manual_seed(self.seed)
        self.sample_generator = torch.Generator(self.device).manual_seed(self.seed + 1)
        self.num_timesteps, self.iteration, self.total_timesteps = 0, 0, 0
        # The next rollout's start; None while one is under way, so that whatever interrupts it restarts the episodes.
        self.next_start: Tensor | None = self.envs.reset(seed=self.seed)[0]["x"]
        self.sanity = SanityChecks()
        self._logger: Logger | None = None
        self._callback: BaseCallback = CallbackList([])
        self.build(torch.Generator().manual_seed(self.seed))

    @classmethod
    @abstractmethod
    def default_config(cls) -> Any:
        """The configuration taken where none is given."""

    @property
    def train_critic(self) -> bool:
        """Whether the reward learns; False keeps the critic as it is given."""
        return bool(self.env_kwargs.get("train_critic", True))

    @abstractmethod
    def build(self, generator: torch.Generator) -> None:
        """Make networks and optimizers; weights come from ``generator``."""

    @abstractmethod
    def iterate(self) -> dict[str, float | Tensor]:
        """One iteration of the algorithm; returns metrics under stable-baselines3's names."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Everything the algorithm trains: networks, averages, optimizers."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what ``state_dict`` gave."""

    @property
    @abstractmethod
    def sampler(self) -> DenoisingPolicy:
        """The policy that predict, sample and evaluate use."""

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Train until ``total_timesteps`` environment steps (num_envs * K a rollout) are done.

        Arguments as in stable-baselines3: with ``reset_num_timesteps=False`` the steps are added to those done, and
        the learning rate follows the whole. ``log_interval`` counts iterations. A value that is not finite stops the
        run with FloatingPointError, which names it, and saves the state beside the logs. A run that was stopped inside
        an episode goes on with new episodes.
        """
        self._set_up(total_timesteps, callback, tb_log_name, reset_num_timesteps, progress_bar)
        self._callback.on_training_start({"self": self, "total_timesteps": self.total_timesteps}, globals())
        started, first = time.perf_counter(), self.num_timesteps
        try:
            while self.num_timesteps < self.total_timesteps:
                metrics = self._iterate_once()
                if self.iteration % log_interval == 0:
                    self._log(metrics, fps=(self.num_timesteps - first) / (time.perf_counter() - started))
        except StopTraining:
            pass
        finally:
            self._callback.on_training_end()
        return self

    def _set_up(
        self, total: int, callback: MaybeCallback, tb_log_name: str | None, reset: bool, progress_bar: bool
    ) -> None:
        if total < 1:
            raise ValueError(f"total_timesteps must be at least 1 environment step; received {total}.")
        if reset:
            self.num_timesteps = self.iteration = 0
        self.total_timesteps = self.num_timesteps + total
        if self._logger is None:
            self.set_logger(self._new_logger(tb_log_name or type(self).__name__))
        if self.next_start is None:
            self.next_start = self.envs.reset()[0]["x"]
        callbacks = [callback] if isinstance(callback, BaseCallback) else list(callback or [])
        self._callback = CallbackList(callbacks + [ProgressBarCallback()] * progress_bar)
        self._callback.init_callback(self)  # type: ignore[arg-type]  # an agent has what callbacks use of a BaseAlgorithm

    def _iterate_once(self) -> dict[str, float | Tensor]:
        self._callback.on_rollout_start()
        try:
            metrics = self.iterate()
        except FloatingPointError as error:
            raise FloatingPointError(f"{error} {self._save_stopped()}") from error
        self.iteration += 1
        self._callback.on_rollout_end()
        return metrics

    def _save_stopped(self) -> str:
        if self.logger.dir is None:
            return "Nothing was saved: give tensorboard_log to have the state kept when this happens."
        path = self.save(Path(self.logger.dir) / "stopped")
        return f"The state at that moment is in {path}; the checkpoint before it is untouched."

    def on_step(self, ended: bool) -> bool:
        """To be called after each step of the environments, all of whose episodes ``ended`` or none; False to stop."""
        self.num_timesteps += self.num_envs
        self._callback.update_locals({"dones": np.full(self.num_envs, ended)})  # StopTrainingOnMaxEpisodes counts them
        return self._callback.on_step()

    def _log(self, metrics: Mapping[str, float | Tensor], fps: float) -> None:
        everything = {**metrics, **self.diagnostics(), "time/fps": int(fps), "time/iterations": self.iteration}
        everything |= self.sanity({key: float(value) for key, value in everything.items()}, self.iteration)
        for key, value in everything.items():
            self.logger.record(key, float(value))
        self.logger.record("time/total_timesteps", self.num_timesteps)
        self.logger.dump(self.num_timesteps)

    def diagnostics(self) -> dict[str, float]:
        """Metrics that cost something and are computed only when they are logged."""
        return {}

    @property
    def progress_remaining(self) -> float:
        """1 at the start of the run, 0 at its end: what learning-rate schedules follow."""
        return max(0.0, 1.0 - self.num_timesteps / max(self.total_timesteps, 1))

    # --- stable-baselines3's side: what its callbacks look for -----------------------------------------------------

    @property
    def logger(self) -> Logger:
        """stable-baselines3's logger; present once ``learn`` or ``set_logger`` was called."""
        if self._logger is None:
            raise RuntimeError("There is no logger yet: call learn() or set_logger() first.")
        return self._logger

    def set_logger(self, logger: Logger) -> None:
        """Log to ``logger`` (see stable_baselines3.common.logger.configure) from now on."""
        self._logger = logger

    def _new_logger(self, run_name: str) -> Logger:
        if self.tensorboard_log is None:
            return Logger(folder=None, output_formats=[])
        folder = str(self.tensorboard_log)
        run = f"{run_name}_{get_latest_run_id(folder, run_name) + 1}"
        return configure(str(Path(folder) / run), ["tensorboard", "json"])

    def get_env(self) -> DDPMShortcutVectorEnv:
        """The training environments."""
        return self.envs

    def get_vec_normalize_env(self) -> None:
        """None: observations and rewards are never normalised (EvalCallback asks)."""
        return None

    @torch.no_grad()
    def predict(
        self,
        observation: Mapping[str, Any],
        state: None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[np.float32], None]:
        """The "step" action for one observation or a batch: x (*shape) or (n, *shape), step () or (n,).

        Returns ``(action, None)`` as stable-baselines3 does; the two arguments in the middle are for recurrent
        policies and not used. ``deterministic`` takes the mean. Raises ValueError on a finished sample.
        """
        x = torch.as_tensor(np.asarray(observation["x"]), dtype=torch.float32, device=self.device)
        k = torch.as_tensor(np.asarray(observation["step"]), dtype=torch.int64, device=self.device)
        if bool((k >= self.policy.table.num_steps).any()):
            raise ValueError(f"A finished sample (step {self.policy.table.num_steps}) has no next action; reset first.")
        law = self.sampler(x, k)
        x_next = law.mean if deterministic else law.sample(self.sample_generator)
        return self.policy.action(x, x_next, k).numpy(force=True), None

    def sample(self, n: int, seed: int | None = None) -> Tensor:
        """n samples (n, *shape) in data units, on the agent's device; ``seed`` None goes on with the agent's own."""
        generator = self.sample_generator
        if seed is not None:
            generator = torch.Generator(self.device).manual_seed(seed)
        return self._sample(n, generator)

    def _sample(self, n: int, generator: torch.Generator) -> Tensor:
        return self.envs.dataset.to_data(sample(self.sampler.sampling_table, self.sampler.net, n, generator))

    def evaluate(self, config: EvaluationConfig | None = None) -> dict[str, Any]:
        """The metrics of `diffusion_env.evaluation.protocol.evaluate`, in data units, of the current sampler."""
        return evaluate(self._sample, self.envs.dataset, config)

    def save(self, path: str | Path) -> Path:
        """Write everything a bit-exact resume needs to one safetensors file with a JSON header, atomically.

        Exact between iterations: after ``learn``, or from a callback's ``on_rollout_start`` and ``on_rollout_end``.
        What a callback saves inside an episode is whole, but goes on with new episodes.
        """
        return save_object(path, agent_header(self), agent_state(self))

    @classmethod
    def load(
        cls,
        path: str | Path,
        env_kwargs: Mapping[str, Any] | None = None,
        tensorboard_log: str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> Self:
        """The agent that ``save`` wrote, ready to sample or to go on learning exactly where it was.

        ``env_kwargs`` replaces keywords; those that were objects (a Dataset, a Critic) must be given again.
        Raises CheckpointError for a file that is not such an agent.
        """
        state, header = read_agent(path, cls.name, device)
        agent = cls(
            header.extra["env_id"],
            cls.config_class(**header.config),
            header.extra["num_envs"],
            saved_env_kwargs(header, env_kwargs, path),
            header.extra["seed"],
            tensorboard_log,
            device,
        )
        restore_agent(agent, state, path)
        return agent

    def resume(self, callback: MaybeCallback = None, log_interval: int = 10, progress_bar: bool = False) -> Self:
        """Do what is left of the interrupted ``learn``; its end is bit for bit that of an uninterrupted run (CPU)."""
        left = self.total_timesteps - self.num_timesteps
        return self if left <= 0 else self.learn(left, callback, log_interval, None, False, progress_bar)
