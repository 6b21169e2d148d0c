"""The agents' own evaluation, for algorithms of stable-baselines3."""

from __future__ import annotations

from contextlib import nullcontext

from torch import Tensor

from agents.callbacks import CURVE_SEED, IterationCallback, SamplerEvaluation
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
