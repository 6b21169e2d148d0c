"""The pretrained sampler with its K steps, before fine-tuning, as an algorithm that trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.logger import Logger, configure
from torch import Tensor

from agents.core.algorithm import MaybeCallback, bound
from agents.core.logs import checked_log, log_state
from agents.core.persistence import saved_at
from agents.core.sanity import with_warning
from agents.core.task import Task
from agents.runs.saving import run_header
from diffusion_env.assembly import reference_denoiser, usable_device
from diffusion_env.checkpoints import CheckpointError, save_object
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.protocol import evaluate
from diffusion_env.fields import checked_counts
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.tables import StepTable
from diffusion_env.samplers.walk import sample
from diffusion_env.seeds import stream


class Untouched:
    """Walks the task's step table with the task's denoiser; ``learn`` changes nothing.

    Raises ValueError where the data set has no pretrained network.
    """

    name = "untouched"
    critic = None
    network_evaluations: int | None = 0

    def __init__(self, task: Task, seed: int = 0, tensorboard_log: str | Path | None = None) -> None:
        self.task, self.seed = task, seed
        self.settings: dict[str, Any] = {}
        self.num_timesteps = self.total_timesteps = 0
        self.dataset: Dataset = load_dataset(task.dataset).to(usable_device(task.device))
        network = reference_denoiser(task.denoiser, self.dataset)
        if network is None:
            raise ValueError(
                f"The data set {self.dataset.name!r} has no shipped network. Pretrain one (`ddpm-shortcut pretrain "
                "--dataset ... --output net.safetensors`) and give it with --denoiser."
            )
        self._loaded_log: Mapping[str, Any] | None = log_state(None)
        self.network: Denoiser = network
        self.table: StepTable = make_table(task.sampler, network.schedule, task.num_steps).to(self.dataset.device)
        self.logger = Logger(None, []) if tensorboard_log is None else configure(str(tensorboard_log), ["tensorboard"])

    def set_logger(self, logger: Logger) -> None:
        """Send metrics to ``logger`` from now on."""
        self.logger, self._loaded_log = logger, None

    @property
    def logged(self) -> Mapping[str, Any] | None:
        """`agents.core.logs.log_state` of the present logger; before there is one, of the file that was loaded."""
        return self._loaded_log or log_state(self.logger)

    @property
    def iteration_timesteps(self) -> int:
        """Environment steps of an iteration: one episode of every environment."""
        return self.task.num_envs * self.task.num_steps

    def train(self, total_timesteps: int) -> None:
        """What ``learn`` does between the start and the end of its callbacks: nothing."""

    def learn(self, total_timesteps: int, callback: MaybeCallback = None, log_interval: int = 10) -> Self:
        """Train at once for ``total_timesteps`` environment steps; callbacks see the start and the end."""
        self.num_timesteps, self.total_timesteps = 0, total_timesteps
        callbacks = CallbackList(bound(callback, self))
        callbacks.init_callback(self)  # type: ignore[arg-type]  # it has what callbacks use of a model
        callbacks.on_training_start({"self": self, "total_timesteps": total_timesteps}, {})
        self.train(total_timesteps)
        self.num_timesteps = total_timesteps
        callbacks.on_training_end()
        return self

    def resume(self, callback: MaybeCallback = None, log_interval: int = 10) -> Self:
        """``learn`` again from its beginning, unless it was done."""
        left = self.total_timesteps - self.num_timesteps
        return self if left <= 0 else self.learn(self.total_timesteps, callback, log_interval)

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file with the sampler and the counters."""
        counters = [self.num_timesteps, self.total_timesteps]
        state = {"sampler": self.sampler_state(), "counters": counters, "log": self.logged}
        header = run_header(self.name, self.task, self.seed, self.settings, self.dataset)
        return save_object(saved_at(path), header, state)

    def restore(self, state: Mapping[str, Any], path: str | Path) -> None:
        """Put back what ``save`` wrote to ``path``; CheckpointError where it does not fit."""
        try:
            self.set_sampler_state(state["sampler"])
            self.num_timesteps, self.total_timesteps = checked_counts(state["counters"])
            self._loaded_log = checked_log(state.get("log"))
        except Exception as error:  # what is wrong with a forged state shows in many ways
            raise CheckpointError(
                f"{path} does not fit this {self.name} ({error}). Load it with the task it was trained with."
            ) from error

    def sampler_state(self) -> Any:
        """What ``save`` keeps of the sampler: None, for it is the task's."""
        return None

    def set_sampler_state(self, state: Any) -> None:
        """Take back what `sampler_state` gave."""

    def get_env(self) -> None:
        """None: it acts in no environment (callbacks ask)."""
        return None

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, *shape) in data units from ``generator``, which is on the task's device."""
        return self.dataset.to_data(sample(self.table, self.network, n, generator))

    def sample(self, n: int, seed: int) -> Tensor:
        """n samples (n, *shape) in data units; RuntimeWarning where some are not finite."""
        return with_warning(self.draw(n, stream(seed, "sampling", self.dataset.device)))

    def evaluate(self, config: EvaluationConfig | None = None) -> dict[str, Any]:
        """The metrics of `diffusion_env.evaluation.protocol.evaluate`, in data units."""
        return evaluate(self.draw, self.dataset, config)
