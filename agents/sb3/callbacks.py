"""The agents' own evaluation and critic schedule, for algorithms of stable-baselines3."""

from __future__ import annotations

from contextlib import nullcontext

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import Tensor

from agents.core.config import AgentConfig
from agents.runs.callbacks import CURVE_SEED, IterationCallback, SamplerEvaluation
from agents.sb3.counting import NetworkEvaluations
from agents.sb3.samplers import sb3_sampler, world_of


class SB3Evaluation(SamplerEvaluation):
    """`SamplerEvaluation` of the policy an SB3 algorithm trains: eval/sw2, eval/off_support, eval/samples and times.

    It measures at the start, at the end, and whenever ``every_timesteps`` environment steps have passed, before the
    next rollout begins: what those steps have taught is in the weights by then. (A rollout is ``n_steps`` steps
    on-policy but only ``train_freq`` steps off-policy, so iterations would be no common unit.)

    Args:
        every_timesteps: environment steps from one measurement to the next, at least.
        num_samples: samples, and fresh points they are compared with (fewer for small files).
        seed: of the samples, the fresh points and the directions.
        deterministic: whether the policy takes its mean actions.
        counter: paused while samples are drawn, so that it counts training alone.
    """

    def __init__(
        self,
        every_timesteps: int,
        num_samples: int = 10_000,
        seed: int = CURVE_SEED,
        deterministic: bool = False,
        counter: NetworkEvaluations | None = None,
    ) -> None:
        super().__init__(1, num_samples, seed)
        if every_timesteps < 1:
            raise ValueError(f"every_timesteps must be an integer >= 1; received {every_timesteps!r}.")
        self.every_timesteps, self.deterministic, self.counter = every_timesteps, deterministic, counter

    def _init_callback(self) -> None:
        self._sample = sb3_sampler(self.model, deterministic=self.deterministic)
        self._dataset = world_of(self.training_env).dataset

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._next = self.model.num_timesteps + self.every_timesteps

    def _on_rollout_start(self) -> None:
        super()._on_rollout_start()
        if self.model.num_timesteps >= self._next:
            self._next = self.model.num_timesteps + self.every_timesteps
            self.measure()

    def _on_rollout_end(self) -> None:
        IterationCallback._on_rollout_end(self)  # SB3 trains after this: the weights are still the old ones

    def _draw(self) -> Tensor:
        with nullcontext() if self.counter is None else self.counter.paused():
            return super()._draw()


class CriticSchedule(BaseCallback):
    """The environment's critic learns at a step size that falls linearly to zero over the run, as the agents' does.

    Args:
        learning_rate: at the start.

    Raises TypeError in a SubprocVecEnv, whose critics live in other processes.
    """

    def __init__(self, learning_rate: float = AgentConfig.critic_learning_rate) -> None:
        super().__init__()
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a finite number >= 0; received {learning_rate!r}.")
        self.learning_rate = learning_rate

    def _on_training_start(self) -> None:
        if isinstance(self.training_env.unwrapped, SubprocVecEnv):
            raise TypeError(
                "CriticSchedule cannot reach the critics of a SubprocVecEnv, which live in other processes. Train in "
                "DDPMShortcutVecEnv or DummyVecEnv, or leave the callback out."
            )
        self._start = self.model.num_timesteps
        self._length = self.locals["total_timesteps"] - self._start

    def _on_rollout_start(self) -> None:
        left = 1 - (self.model.num_timesteps - self._start) / self._length
        for critic in {world.critic for world in self.training_env.get_attr("unwrapped")}:  # the adapter has one
            critic.set_learning_rate(self.learning_rate * max(0.0, left))

    def _on_step(self) -> bool:
        return True
