r"""Denoisers eps_theta(x, time): what a step table asks at every row.

Letters: t the training level; a = alpha_bar_t; x = sqrt(a) x_0 + sqrt(1 - a) eps. A denoiser answers eps. The
network inside predicts v = sqrt(a) eps - sqrt(1 - a) x_0 (Salimans & Ho 2022, section 4) and eps = sqrt(a) v +
sqrt(1 - a) x: at high noise, where a table multiplies eps by 1 / sqrt(a) >> 1, the x part cancels exactly instead
of being learned to many digits.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import CheckpointError, Header, load_module, load_object, save_object
from diffusion_env.networks.layers import ConditionedMLP
from diffusion_env.samplers.schedules import SCHEDULES, NoiseSchedule, make_schedule

_NUM_FREQUENCIES = 16


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
        header = Header("denoiser", "mlp", config, metadata or {})
        return save_object(path, header, {"weights": dict(self.state_dict())})

    @classmethod
    def load(cls, path: str | Path) -> EpsMLP:
        """Read what `save` wrote; CheckpointError if the file is anything else."""
        state, header = load_object(path, "denoiser")
        if header.name != "mlp":
            raise CheckpointError(f"{path} holds a denoiser of kind {header.name!r}, but an 'mlp' was to be loaded.")
        config = dict(header.config)
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
