"""Configurations of pretraining and evaluation: frozen dataclasses that do without torch, so ``--help`` stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_env.samplers.schedules import DEFAULT_SCHEDULE


@dataclass(frozen=True)
class PretrainConfig:
    """How a denoiser is pretrained."""

    kind: str = "mlp"
    """Kind of network: mlp, or another name in `diffusion_env.denoisers.loading.DENOISERS`."""
    schedule: str = DEFAULT_SCHEDULE
    """Noise schedule: linear, cosine, sigmoid, published_toy, karras (variance exploding) or rectified_flow."""
    prediction: str = "v_prediction"
    """What the network's layers put out, whose squared error is the loss: epsilon, v_prediction, sample or flow."""
    num_levels: int = 1000
    """T, number of training levels."""
    num_updates: int = 15_000
    """Optimizer steps."""
    batch_size: int = 1024
    """Data points per optimizer step."""
    learning_rate: float = 2e-3
    """Adam's step size at the start; it falls to zero along a half cosine."""
    ema_decay: float = 0.999
    """Decay per step of the averaged weights, which are the result."""
    width: int = 128
    """Units in each hidden layer."""
    depth: int = 3
    """Hidden layers."""
    seed: int = 0
    """Seed of the weights, the batches and the noise."""
    device: str = "cpu"
    """Torch device."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many points, how often."""

    num_samples: int = 10_000
    """Samples, and reference points, per seed; for files at most a third of the held-out points."""
    w1_samples: int = 2_500
    """Points per side of the exact W1 and of the MMD, whose cost is quadratic; at most 3,000."""
    num_projections: int = 100
    """Directions of the sliced Wasserstein-2 distance."""
    support_points: int = 20_000
    """Fresh points that stand for the support of the data."""
    support_radius: float | None = None
    """Data units: a sample farther than this from every support point is off the support. None takes the data
    set's published radius, or else the 99.9 % quantile of the distance from the reference to the support."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """One repetition with new samples, new data and new directions per seed."""
    sample_batch: int = 10_000
    """Samples asked of the sampler at once."""
    refit_critic: str | None = "energy"
    """Critic that is trained anew on the first seed's samples against its data; None leaves it out."""
    refit_steps: int = 5_000
    """The most steps that it is trained; it stops before when its gap on unseen points has stopped rising."""
    refit_body: str | None = None
    """Its network: mlp or conv; None chooses by the shape of the data."""

    def __post_init__(self) -> None:
        if self.refit_critic is not None and self.refit_steps < 1:
            raise ValueError(
                f"An evaluation got refit_steps {self.refit_steps}. A critic that is trained anew needs at least one "
                "step; refit_critic=None leaves it out."
            )
        if not self.seeds or min(self.num_samples, self.w1_samples, self.sample_batch) < 2:
            raise ValueError(
                f"An evaluation got seeds {self.seeds}, num_samples {self.num_samples}, w1_samples "
                f"{self.w1_samples} and sample_batch {self.sample_batch}. It needs at least one seed and every "
                "number of points at least 2."
            )
