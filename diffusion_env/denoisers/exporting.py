r"""A few-step sampler written as a folder of diffusers: its U-Net, a scheduler's configuration, and the step table.

diffusers' pipeline cannot walk a step table: it asks at integer timesteps, adds no noise at timestep 0 and knows no
other std than its schedule's. So `sampler.json` lies beside the network, and a loop of ten lines walks it (see the
README of this folder). For the loop the table is written in what the network itself predicts. Letters: p the network's
answer, x the state, eps = a p + b x; then

    x_coef x + eps_coef eps + std z = (x_coef + eps_coef b) x + eps_coef a p + std z
"""

from __future__ import annotations

import os
import secrets
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffusion_env.checkpoints import write_json
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.diffusers_folder import BETAS, SchedulerConfig
from diffusion_env.denoisers.unet import UNetDenoiser
from diffusion_env.samplers.denoiser import Denoiser, PathAt, unit_columns
from diffusion_env.samplers.predictions import to_epsilon
from diffusion_env.samplers.schedules import NoiseSchedule
from diffusion_env.samplers.tables import StepTable, ddpm

SAMPLER = "sampler.json"
DIFFUSERS_PREDICTIONS = ("epsilon", "v_prediction", "sample")


def write_folder(folder: str | Path, denoiser: Denoiser, table: StepTable, data: Dataset) -> Path:
    """Write the sampler that walks ``table`` with ``denoiser`` as a folder that diffusers reads; returns its path.

    It holds a ``DDPMPipeline`` (U-Net and ``DDPMScheduler``) and `SAMPLER`: the table (`StepTable.from_dict`), the
    steps of the loop, DDPM's timesteps where ``DDPMScheduler`` walks the same table, and the map from network units to
    the units of ``data``. The folder is there whole or not at all.

    Raises ValueError for a network that is no U-Net, or predicts what diffusers has no name for; FileExistsError where
    ``folder`` is not empty; ImportError without diffusers.
    """
    target, network = Path(folder), getattr(denoiser, "network", denoiser)
    if not isinstance(network, UNetDenoiser):
        raise ValueError(
            f"Only networks of kind 'unet' can be written as a folder of diffusers; this one is a "
            f"{type(network).__name__}. Keep it as our own file, or pretrain with --kind unet."
        )
    if network.output not in DIFFUSERS_PREDICTIONS:
        raise ValueError(
            f"The network predicts {network.output!r}, which diffusers' DDPMScheduler has no name for. Pretrain with "
            f"one of {list(DIFFUSERS_PREDICTIONS)}."
        )
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(f"{target} is there already and is not empty. Choose another folder.")
    import diffusers

    settings = scheduler_settings(network.schedule)
    scheduler = diffusers.DDPMScheduler(**settings, prediction_type=network.output, clip_sample=False)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        pipeline: Any = diffusers.DDPMPipeline(network.unet, scheduler)
        pipeline.save_pretrained(unfinished)
        write_json(unfinished / SAMPLER, sampler_json(network, table, data))
        os.replace(unfinished, target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def scheduler_settings(schedule: NoiseSchedule) -> dict[str, Any]:
    """The betas of ``schedule`` as keywords of ``DDPMScheduler``: by name where it has one for them."""
    settings: dict[str, Any] = {"num_train_timesteps": schedule.num_levels}
    for name in BETAS:
        named = SchedulerConfig(**settings, beta_schedule=name)  # type: ignore[arg-type]  # its keys are those allowed
        if np.array_equal(named.schedule.alpha_bar, schedule.alpha_bar):
            return {**settings, "beta_schedule": name}
    a = schedule.alpha_bar
    return {**settings, "trained_betas": (1 - a[1:] / a[:-1]).tolist()}


def sampler_json(network: UNetDenoiser, table: StepTable, data: Dataset) -> dict[str, Any]:
    """What `SAMPLER` holds, JSON."""
    table = table.to("cpu")
    columns = loop_columns(network, table)
    return {
        "loop": "x = x_coef * x + output_coef * unet(x, timestep).sample + std * z; x starts at N(0, I)",
        "shape": list(network.shape),
        "steps": [dict(zip(columns, step, strict=True)) for step in zip(*columns.values(), strict=True)],
        "ddpm_timesteps": ddpm_timesteps(network.schedule, table),
        "data": {"name": data.name, "scale": data.scale, "center": data.center.tolist()},
        "table": table.to_dict(),
    }


def loop_columns(network: UNetDenoiser, table: StepTable) -> dict[str, list[float]]:
    """The columns of ``table``, each (K,), in what the network predicts; timesteps count from 0, as in diffusers."""
    alpha, sigma = (c.double() for c in unit_columns(PathAt(network.schedule).log_snr(table.time)))
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    a, b = (to_epsilon(network.output, p, x, alpha, sigma) for p, x in ((one, zero), (zero, one)))
    return {
        "timestep": (table.time.double() - 1).tolist(),
        "x_coef": (table.x_coef + table.eps_coef * b).tolist(),
        "output_coef": (table.eps_coef * a).tolist(),
        "std": table.std.tolist(),
    }


def ddpm_timesteps(schedule: NoiseSchedule, table: StepTable) -> list[int] | None:
    """The timesteps, from 0, with which ``DDPMScheduler(variance_type="fixed_small")`` walks ``table``; None where it
    cannot: fractional times, or other coefficients or stds (K,) than DDPM's."""
    levels = [int(t) for t in table.time.tolist()]
    if not np.array_equal(levels, table.time.numpy()) or any(b >= a for a, b in pairwise(levels)):
        return None
    plain = ddpm(schedule, levels)
    pairs = ((getattr(table, column), getattr(plain, column)) for column in ("x_coef", "eps_coef", "std"))
    return [t - 1 for t in levels] if all(torch.allclose(ours, own, 1e-5, 1e-6) for ours, own in pairs) else None
