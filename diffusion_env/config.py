"""Configurations of pretraining and evaluation: frozen dataclasses that do without torch, so ``--help`` stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from diffusion_env.fields import Bounds, Count, Depth, Pair, Positive, Seed, Share, Weight, Width, check_fields
from diffusion_env.samplers.schedules import DEFAULT_SCHEDULE


@dataclass(frozen=True)
class PretrainConfig:
    """How a denoiser is pretrained."""

    kind: str = "mlp"
    """Kind of network: mlp, unet, dit, or another name in `diffusion_env.denoisers.loading.DENOISERS`."""
    schedule: str = DEFAULT_SCHEDULE
    """Noise schedule: linear, cosine, sigmoid, published_toy, karras (variance exploding) or rectified_flow."""
    prediction: str = "v_prediction"
    """What the network's layers put out, whose squared error is the loss: epsilon, v_prediction, sample or flow."""
    num_levels: Annotated[int, Bounds(1, 2**20)] = 1000
    """T, number of training levels."""
    num_updates: Count = 15_000
    """Optimizer steps."""
    batch_size: Annotated[int, Bounds(1, 2**24)] = 1024
    """Data points per optimizer step."""
    learning_rate: Weight = 2e-3
    """Adam's step size at the start; it falls to zero along a half cosine."""
    ema_decay: Share = 0.999
    """Decay per step of the averaged weights, which are the result."""
    width: Width | None = None
    """Units (channels of a U-Net at its finest resolution); None takes what suits the kind, 128 of mlp."""
    depth: Depth | None = None
    """Hidden layers (resolutions of a U-Net, blocks of a transformer); None takes what suits the kind, 3 of mlp."""
    seed: Seed = 0
    """Seed of the weights, the batches and the noise."""
    device: str = "cpu"
    """Torch device."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class EvaluationConfig:
    """What is measured, on how many points, how often."""

    num_samples: Annotated[int, Bounds(2, 2**24)] = 10_000
    """Samples, and reference points, per seed; for files at most a third of the held-out points."""
    w1_samples: Pair = 2_500
    """Points per side of the exact W1 and of the MMD, whose cost is quadratic; at most 3,000."""
    num_projections: Count = 100
    """Directions of the sliced Wasserstein-2 distance."""
    support_points: Annotated[int, Bounds(1, 2**24)] = 20_000
    """Fresh points that stand for the support of the data."""
    support_radius: Positive | None = None
    """Data units: a sample farther than this from every support point is off the support. None takes the data
    set's published radius, or else the 99.9 % quantile of the distance from the reference to the support."""
    seeds: tuple[Seed, ...] = (0, 1, 2, 3, 4)
    """One repetition with new samples, new data and new directions per seed."""
    sample_batch: Pair = 10_000
    """Samples asked of the sampler at once."""
    refit_critic: str | None = "energy"
    """Critic that is trained anew on the first seed's samples against its data; None leaves it out."""
    refit_steps: Count = 5_000
    """The most steps that it is trained; it stops before when its gap on unseen points has stopped rising."""
    refit_body: str | None = None
    """Its network: mlp or conv; None chooses by the shape of the data."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.seeds:
            raise ValueError("An evaluation needs at least one seed; received seeds = ().")
