"""stable-baselines3 callbacks: how good the sampler is while it trains, checkpoints, and a progress bar.

They act where an algorithm stands between two iterations. Put `SamplerEvaluation` before `Checkpoint`, so that a
sampler found to have diverged is not saved over the last good one.
"""

from __future__ import annotations

import sys
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stable_baselines3.common.callbacks import ProgressBarCallback
from stable_baselines3.common.logger import Image
from torch import Tensor

from agents.core.algorithm import AlgorithmCallback, SeededSample
from agents.core.persistence import CHECKPOINT
from agents.runs.clock import TrainingClock
from agents.runs.logs import TIMESTEPS, RunLogger
from agents.runs.signals import StopRequest
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.metrics import off_support, sliced_wasserstein
from diffusion_env.evaluation.protocol import draw_fresh, support_radius
from diffusion_env.seeds import stream

CURVE_SEED = 10_000
"""Curves are measured on points of this seed; reported tables use the seeds 0, 1, 2, ... of `EvaluationConfig`."""
PICTURED = 4_000


class Measurement(NamedTuple):
    """One point of the learning curve."""

    num_timesteps: int
    sw2: float  # data units
    off_support: float  # share of the samples
    train_seconds: float
    train_cpu_seconds: float


LOGGED_AS = (TIMESTEPS, "eval/sw2", "eval/off_support", "time/train_seconds", "time/train_cpu_seconds")
"""Names of a `Measurement`'s fields in the log."""


class Between(AlgorithmCallback):
    """Acts where an algorithm stands between two iterations: at the start, when due, and at the end.

    The end of an iteration is seen when the next one begins: stable-baselines3's algorithms train after
    ``on_rollout_end``, and what the rollout has taught is in the weights only then.
    """

    def __init__(self, every_timesteps: int | None) -> None:
        """``every_timesteps``: due in the first iteration that begins after each multiple of it; None never."""
        super().__init__()
        if every_timesteps is not None and every_timesteps < 1:
            raise ValueError(f"every_timesteps must be an integer >= 1; received {every_timesteps!r}.")
        self.every_timesteps = every_timesteps

    def _on_training_start(self) -> None:
        self._seen, self._error = self.model.num_timesteps, sys.exc_info()[1]

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps > self._seen and self.due():
            self.act()
        self._seen = self.model.num_timesteps

    def _on_training_end(self) -> None:
        # An exception inside an iteration leaves the model partly updated.
        if sys.exc_info()[1] is self._error:
            self.act()

    def due(self) -> bool:
        """Whether a multiple of ``every_timesteps`` was passed since the last iteration began."""
        every = self.every_timesteps
        return every is not None and self.model.num_timesteps // every > self._seen // every

    @abstractmethod
    def act(self) -> None:
        """What is done when due, and at the end."""


class SamplerEvaluation(Between):
    """Measures the sampler of any algorithm every so many environment steps, at the start and at the end.

    Logs eval/sw2 (data units), eval/off_support (share of the samples), a picture eval/samples for tensorboard, and
    time/train_seconds and time/train_cpu_seconds, which leave out what the measurement itself takes. The samples come
    from a generator of their own, so a run with this callback is bit for bit the run without it.

    Args:
        every_timesteps: environment steps from one measurement to the next; the iteration under way is finished.
        num_samples: samples, and fresh points they are compared with (fewer for small files).
        seed: of the samples, the fresh points and the directions; the same in every measurement.
        sample: what draws samples; None takes the algorithm's own ``sample(n, seed)``. For a bare model of
            stable-baselines3, which has none, give `agents.sb3.sb3_sampler`.
        dataset: what they are compared with; None takes the algorithm's own.
    """

    def __init__(
        self,
        every_timesteps: int,
        num_samples: int = 10_000,
        seed: int = CURVE_SEED,
        sample: SeededSample | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        super().__init__(every_timesteps)
        self.seed = seed
        self.config = EvaluationConfig(num_samples=num_samples, seeds=(seed,))
        self.clock, self.history = TrainingClock(), list[Measurement]()
        self._sample, self._dataset = sample, dataset
        self._used = 0.0, 0.0  # seconds, and processor seconds, of an interrupted run

    def recall(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Go on with the measurements that an interrupted run has left in the ``lines`` of its log."""
        logged = [line for line in lines if "eval/sw2" in line]
        self.history = [Measurement(*(line[name] for name in LOGGED_AS)) for line in logged]
        if self.history:
            self._used = self.history[-1].train_seconds, self.history[-1].train_cpu_seconds
            self.clock.start(*self._used)
            self.clock.stop()

    @property
    def dataset(self) -> Dataset:
        """What the samples are compared with."""
        return self._dataset or self.algorithm.dataset

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.points = draw_fresh(self.dataset, self.config, self.seed)
        self.radius = support_radius(self.points, self.dataset, self.config)
        self.clock.start(*self._used)
        if self.model.num_timesteps == 0:
            self.measure()

    def _on_training_end(self) -> None:
        self.clock.stop()
        super()._on_training_end()

    def act(self) -> None:
        """Measure, unless that was done at this number of steps."""
        if not self.history or self.history[-1].num_timesteps != self.model.num_timesteps:
            self.measure()

    def measure(self) -> Measurement:
        """Measure now, log and remember; FloatingPointError if a sample is not finite."""
        with self.clock.paused():
            samples = self._draw()
            point = self._compare(samples)
            self.history.append(point)
            self._log(point, samples)
        return point

    def _draw(self) -> Tensor:
        draw = self._sample or self.algorithm.sample
        samples = draw(len(self.points.reference), self.seed)
        bad = int((~samples.flatten(1).isfinite().all(1)).sum())
        if bad:
            raise FloatingPointError(
                f"{bad} of {len(samples)} samples are NaN or infinite after {self.model.num_timesteps:,} environment "
                "steps: the sampler has diverged. Lower the learning rates or clip the gradient (max_grad_norm)."
            )
        return samples

    def _compare(self, samples: Tensor) -> Measurement:
        directions = stream(self.seed, "evaluation directions", samples.device)
        return Measurement(
            self.model.num_timesteps,
            sliced_wasserstein(samples, self.points.reference, directions, self.config.num_projections),
            off_support(samples, self.points.support, self.radius),
            self.clock.seconds,
            self.clock.cpu_seconds,
        )

    def _log(self, point: Measurement, samples: Tensor) -> None:
        if not self.logger.output_formats:  # no log: drawing would take longer than measuring
            return
        from agents.runs.figures import AFTER, Panel, pixels, samples_figure

        panel = Panel(samples[:PICTURED].numpy(force=True), f"SW2 {point.sw2:.4f}", AFTER)
        picture = pixels(samples_figure([panel], self.points.reference[:PICTURED].numpy(force=True)))
        self.logger.record("eval/samples", Image(picture, "HWC"), exclude=("stdout", "log", "json", "csv"))
        for name, value in zip(LOGGED_AS, point, strict=True):
            self.logger.record(name, value)
        self.logger.dump(point.num_timesteps)


class Checkpoint(Between):
    """Writes ``folder/checkpoint.safetensors`` between iterations, at the start and at the end; each write is atomic.

    Due after ``every_timesteps`` environment steps or ``every_seconds``, whichever comes first; None never. Whatever
    stops the run, the file is whole, and ``load_agent(file).resume()`` goes on from there.
    """

    def __init__(
        self, folder: str | Path, every_timesteps: int | None = 1_000_000, every_seconds: float | None = None
    ) -> None:
        super().__init__(every_timesteps)
        self.path, self.every_seconds = Path(folder) / CHECKPOINT, every_seconds

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self.act()

    def due(self) -> bool:
        """Whether steps or seconds have passed."""
        late = self.every_seconds is not None and time.monotonic() - self._written >= self.every_seconds
        return self.ranks.highest(int(late)) == 1 or super().due()

    def act(self) -> None:
        """Write now, after the log; CheckpointError if that fails, and the file before it stays."""
        if isinstance(self.algorithm.logger, RunLogger):
            self.algorithm.logger.sync()
        self.algorithm.save(self.path)
        self._written = time.monotonic()


class StopOnSignal(AlgorithmCallback):
    """Ends the run between two iterations, after ``checkpoint`` has saved it, once a signal has asked any rank for it.

    Raises `agents.runs.signals.Interrupted`. Put it after ``checkpoint``.
    """

    def __init__(self, request: StopRequest, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.request, self.checkpoint = request, checkpoint

    def _on_rollout_start(self) -> None:
        self.request.is_awaited = True
        if number := self.ranks.highest(self.request.number or 0):
            self.request.number = number
            self.checkpoint.act()
            self.request.obey(f"saved at {self.model.num_timesteps:,} environment steps.")


class SamplerProgressBar(ProgressBarCallback):
    """stable-baselines3's progress bar with the newest SW2 of ``evaluation`` in front."""

    def __init__(self, evaluation: SamplerEvaluation) -> None:
        super().__init__()
        self.evaluation = evaluation

    def _on_training_start(self) -> None:
        super()._on_training_start()
        self._on_rollout_start()

    def _on_rollout_start(self) -> None:
        if self.evaluation.history:
            self.pbar.set_description(f"SW2 {self.evaluation.history[-1].sw2:.4f}", refresh=False)

    def _on_training_end(self) -> None:
        self._on_rollout_start()  # with the measurement at the end
        super()._on_training_end()
