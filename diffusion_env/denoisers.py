r"""Denoisers eps_theta(x, time): what a step table asks at every row.

Letters: t the training level; a = alpha_bar_t; x = sqrt(a) x_0 + sqrt(1 - a) eps. A denoiser answers eps. The
network inside predicts v = sqrt(a) eps - sqrt(1 - a) x_0 (Salimans & Ho 2022, section 4) and eps = sqrt(a) v +
sqrt(1 - a) x: at high noise, where a table multiplies eps by 1 / sqrt(a) >> 1, the x part cancels exactly instead
of being learned to many digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import CheckpointError, load_checkpoint, load_module, save_checkpoint, with_suffix
from diffusion_env.networks import ConditionedMLP
from diffusion_env.schedules import SCHEDULES, NoiseSchedule, make_schedule

_NUM_FREQUENCIES = 16


class Denoiser(Protocol):
    """Any callable with the event ``shape`` and the noise ``schedule`` it was trained on."""

    shape: tuple[int, ...]
    schedule: NoiseSchedule

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape) from x (*batch, *shape) and training levels ``time`` that broadcast to (*batch,)."""


class LogSNR(nn.Module):
    """log(a / (1 - a)) at fractional levels, interpolated on the training grid."""

    grid: Tensor

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.register_buffer("grid", torch.tensor(schedule.log_snr, dtype=torch.float32), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        """Log-SNR at levels ``time``, same shape."""
        position = (time - 1).clamp(0, len(self.grid) - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=len(self.grid) - 1)
        return torch.lerp(self.grid[low], self.grid[high], position - low)


class EpsMLP(nn.Module):
    """Time-conditioned epsilon network for events of any ``shape``; about 60,000 weights for a point in the plane.

    ``time`` is the training clock (levels 1 ... T, fractions allowed), so one network serves every K.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        width: int = 128,
        depth: int = 3,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.shape, self.schedule, self.width, self.depth = tuple(shape), schedule, width, depth
        dim = math.prod(shape)
        generator = generator or torch.Generator().manual_seed(0)
        self.net = ConditionedMLP(dim, dim, 2 * _NUM_FREQUENCIES, width, depth, generator)
        self.log_snr = LogSNR(schedule)
        # Log-SNR spans about [-20, 10]: periods from 60 units down to 2 tell neighbouring levels apart smoothly.
        self.register_buffer("frequencies", torch.logspace(-1, 0.5, _NUM_FREQUENCIES), persistent=False)

    frequencies: Tensor

    def forward(self, x: Tensor, time: Tensor, row: Tensor | None = None) -> Tensor:
        """eps (*batch, *shape); see `Denoiser`. With ``row`` (*batch,), ``time`` (K,) is a list of levels that it
        picks from: the same as ``time[row]``, but each level is embedded once and not once per sample."""
        log_snr = self.log_snr(time)
        phases = log_snr.unsqueeze(-1) * self.frequencies
        flat = x.flatten(-len(self.shape))
        v = self.net(flat, torch.cat([phases.sin(), phases.cos()], -1), row)
        log_snr = log_snr if row is None else log_snr[row]
        signal, noise = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()  # sqrt(a), sqrt(1 - a)
        return (signal.unsqueeze(-1) * v + noise.unsqueeze(-1) * flat).view_as(x)

    def save(self, path: str | Path, metadata: dict[str, object] | None = None) -> Path:
        """Write weights, sizes and the schedule's name and T to one safetensors file, atomically.

        Raises ValueError for a schedule that `make_schedule` does not give back from these two.
        """
        _refuse_unnamed(self.schedule)
        config = {
            "shape": list(self.shape),
            "schedule": self.schedule.name,
            "num_levels": self.schedule.num_levels,
            "width": self.width,
            "depth": self.depth,
        }
        return save_checkpoint(path, {"weights": dict(self.state_dict())}, {"eps_mlp": config, **(metadata or {})})

    @classmethod
    def load(cls, path: str | Path) -> EpsMLP:
        """Read what `save` wrote; CheckpointError if the file is anything else."""
        state, metadata = load_checkpoint(path)
        if "eps_mlp" not in metadata:
            raise CheckpointError(f"{path} is a checkpoint but not of an EpsMLP; it holds {sorted(metadata)}.")
        config = dict(metadata["eps_mlp"])
        schedule = make_schedule(config.pop("schedule"), config.pop("num_levels"))
        network = cls(tuple(config.pop("shape")), schedule, **config)
        load_module(network, state["weights"], f"the denoiser in {path}")
        return network.requires_grad_(False)


def _refuse_unnamed(schedule: NoiseSchedule) -> None:
    if schedule.name in SCHEDULES:
        named = make_schedule(schedule.name, schedule.num_levels)
        if np.array_equal(named.alpha_bar, schedule.alpha_bar):
            return
    raise ValueError(
        f"A denoiser is saved with the name and number of levels of its schedule, but {schedule.name!r} with "
        f"{schedule.num_levels} levels is not the schedule of that name. Use make_schedule with one of "
        f"{sorted(SCHEDULES)}, or add the schedule to diffusion_env.schedules.SCHEDULES."
    )


class MixtureDenoiser(nn.Module):
    """The exact eps of data that are a mixture of equal isotropic Gaussians: the oracle of the tests.

    ``means``: (M, *shape), network units; ``std``: their common standard deviation. Source: Bayes' rule on
    x | mode m ~ N(sqrt(a) means[m], (a std^2 + 1 - a) I).
    """

    def __init__(self, means: Tensor, std: float, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.shape, self.schedule, self.std = tuple(means.shape[1:]), schedule, std
        self.register_buffer("means", means.flatten(1), persistent=False)
        self.log_snr = LogSNR(schedule)

    means: Tensor

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape); see `Denoiser`."""
        log_snr = self.log_snr(time).unsqueeze(-1)
        a, b = log_snr.sigmoid(), (-log_snr).sigmoid()
        variance = a * self.std**2 + b
        flat = x.flatten(-len(self.shape))
        gaps = flat.unsqueeze(-2) - a.sqrt().unsqueeze(-1) * self.means  # (*batch, M, D)
        weights = (-0.5 * gaps.square().sum(-1) / variance).softmax(-1)  # responsibilities
        mean_gap = (weights.unsqueeze(-1) * gaps).sum(-2)
        return (b.sqrt() * mean_gap / variance).view_as(x)  # eps = -sqrt(1 - a) * score


def shipped_weights(name: str) -> Path:
    """Where the package keeps the network of the data set called ``name`` (the file need not exist)."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def load_denoiser(
    denoiser: str | Path | Callable[[Tensor, Tensor], Tensor] | None, dataset_name: str, shape: tuple[int, ...]
) -> Denoiser:
    """The reference network: a module, the name of shipped weights, a path, or None for those shipped for the data set.

    Raises FileNotFoundError where no such weights are, TypeError for what is no denoiser, ValueError where its event
    shape is not ``shape``.
    """
    if denoiser is None or isinstance(denoiser, (str, Path)):
        network: Denoiser = EpsMLP.load(_weights_path(dataset_name if denoiser is None else denoiser))
    else:
        network = _checked(denoiser)
    if tuple(network.shape) != tuple(shape):
        raise ValueError(
            f"The denoiser works on events of shape {tuple(network.shape)} but the data have shape {tuple(shape)}. "
            "Give a denoiser pretrained on this data."
        )
    return network


def _checked(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    if callable(denoiser) and hasattr(denoiser, "shape") and hasattr(denoiser, "schedule"):
        return cast(Denoiser, denoiser)
    raise TypeError(
        f"A denoiser is a callable (x, time) -> eps with attributes .shape (of one event) and .schedule (a "
        f"NoiseSchedule); received {type(denoiser).__name__}. Wrap it in such a module, or pass a path or a name."
    )


def _weights_path(name: str | Path) -> Path:
    for path in (shipped_weights(str(name)), with_suffix(name)):
        if path.is_file():
            return path
    shipped = sorted(p.stem for p in shipped_weights("x").parent.glob("*.safetensors"))
    raise FileNotFoundError(
        f"No pretrained denoiser for {str(name)!r}: it is neither a file nor one of the shipped {shipped}. "
        "Make one with `ddpm-shortcut pretrain --dataset ... --output ...` and pass its path as denoiser."
    )
