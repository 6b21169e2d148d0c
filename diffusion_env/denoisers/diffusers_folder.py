"""Folders that diffusers wrote: a pipeline with its ``model_index.json``, or the folder of a U-Net alone.

A folder is read by its fixed names, as JSON and tensors: nothing in it chooses a class, an import or a path. The class
is always ``UNet2DModel``; the noise schedule and the prediction are those of the scheduler's configuration. Which
sampler that scheduler is does not matter here: the step table is ours.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from torch import Tensor

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.checkpoints.foreign import inside, read_json, read_weights
from diffusion_env.denoisers.unet import UNetArchitecture, UNetDenoiser
from diffusion_env.fields import Bounds, Positive, check_fields, checked, from_json
from diffusion_env.samplers.schedules import NoiseSchedule, cosine, from_betas, linear, sigmoid

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
"""The first that is there is read."""
UNET_CLASS = "UNet2DModel"
SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
"""Classes whose configuration gives the betas of a variance preserving schedule."""
NO_ARCHITECTURE = ("sample_size", "in_channels", "out_channels", "dropout")
ONLY = {
    "class_embed_type": None,
    "num_class_embeds": None,
    "time_embedding_type": "positional",
    "num_train_timesteps": None,
}
"""Settings of the U-Net that must have this value."""
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names of layers before diffusers 0.18 -> names of today."""

BETAS: dict[str, Callable[[int, float, float], NoiseSchedule]] = {
    "linear": linear,
    "scaled_linear": lambda t, a, b: from_betas("scaled_linear", np.linspace(a**0.5, b**0.5, t) ** 2),
    "squaredcos_cap_v2": lambda t, a, b: cosine(t),
    "sigmoid": sigmoid,
}
"""``beta_schedule`` of a scheduler -> the schedule with T levels, from beta_start to beta_end."""


@dataclass(frozen=True)
class SchedulerConfig:
    """What is read of a scheduler's configuration, with diffusers' names and defaults."""

    num_train_timesteps: Annotated[int, Bounds(1, 2**20)] = 1000
    beta_start: Positive = 1e-4
    beta_end: Positive = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"] = "linear"
    trained_betas: tuple[Positive, ...] | None = None
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule the network was trained on."""
        if self.trained_betas is not None:
            return from_betas("trained_betas", np.array(self.trained_betas, np.float64))
        return BETAS[self.beta_schedule](self.num_train_timesteps, self.beta_start, self.beta_end)


def is_diffusers_folder(path: Path) -> bool:
    """Whether ``path`` is a folder with the configuration of a pipeline or of a network."""
    return path.is_dir() and any((path / name).is_file() for name in (INDEX, CONFIG))


def read_folder(path: str | Path) -> UNetDenoiser:
    """The U-Net in a folder that diffusers wrote, frozen, with the schedule and the prediction of its scheduler.

    A U-Net alone, without the scheduler's configuration beside it, is taken for one that predicts eps on the linear
    schedule of Ho et al. 2020; a warning says so.

    Raises CheckpointError, which names the file and the setting, for another class of network, classes, learned
    variances, another kind of path, missing weights and links that leave the folder; ImportError without diffusers.
    """
    folder = Path(path)
    is_pipeline = inside(folder, INDEX) is not None
    if is_pipeline:
        check_index(read_json(folder / INDEX), folder)
    unet, scheduler = (("unet",), ("scheduler", SCHEDULER)) if is_pipeline else ((), (SCHEDULER,))
    config, source = inside(folder, *unet, CONFIG), inside(folder, *scheduler)
    if config is None or (is_pipeline and source is None):
        raise CheckpointError(
            f"{folder} lacks {'/'.join((*unet, CONFIG) if config is None else scheduler)}, which a folder that "
            "diffusers wrote has. Copy the folder again."
        )
    architecture, shape = read_architecture(read_json(config), config)
    if source is None:
        warnings.warn(
            f"{folder} has no {SCHEDULER}: its U-Net is taken to predict eps on the linear schedule, betas 1e-4 to "
            "0.02 in 1000 levels. If it was trained otherwise, put its scheduler's configuration there.",
            stacklevel=2,
        )
    settings = SchedulerConfig() if source is None else read_scheduler(read_json(source), source)
    weights = read_unet_weights(folder, *unet)
    try:
        schedule = settings.schedule
    except ValueError as error:
        raise CheckpointError(f"The betas in {source} make no noise schedule: {error}") from error
    return UNetDenoiser.of_weights(shape, schedule, settings.prediction_type, architecture, weights, str(folder))


def check_index(index: Mapping[str, Any], folder: Path) -> None:
    """CheckpointError unless ``model_index.json`` is that of a pipeline of one ``UNet2DModel`` and one scheduler."""
    parts = {name: value for name, value in index.items() if isinstance(value, list)}
    classes = {name: value[-1] if value else None for name, value in parts.items()}
    others = sorted(name for name, value in classes.items() if name not in ("unet", "scheduler") and value is not None)
    if classes.get("unet") != UNET_CLASS or others:
        also = f" beside {others}" if others else ""
        raise CheckpointError(
            f"{folder / INDEX} names a network of class {classes.get('unet')!r}{also}. Only pipelines of one "
            f"{UNET_CLASS} and a scheduler are read (DDPMPipeline, DDIMPipeline): images in pixels, without text, "
            "classes or a latent space."
        )


def read_architecture(config: Mapping[str, Any], path: Path) -> tuple[UNetArchitecture, tuple[int, ...]]:
    """The architecture and the shape (C, H, W) in the configuration of a ``UNet2DModel``.

    Raises CheckpointError for another class, learned variances, and whatever `UNetArchitecture` does not have.
    """
    if config.get("_class_name") != UNET_CLASS:
        raise CheckpointError(
            f"{path} is of class {config.get('_class_name')!r}, and only {UNET_CLASS} is read. Give the folder of an "
            "unconditional U-Net on pixels."
        )
    channels, outputs = config.get("in_channels", 3), config.get("out_channels", 3)
    if outputs != channels:
        learned = isinstance(channels, int) and outputs == 2 * channels
        raise CheckpointError(
            f"{path} has in_channels {channels!r} and out_channels {outputs!r}: "
            + ("the network has a learned variance, which a step table has no place for" if learned else "they differ")
            + ". Give a network with as many outputs as inputs."
        )
    if "attention_head_dim" not in config:
        warnings.warn(
            f"{path} does not say attention_head_dim: heads of 8 channels are taken, as diffusers does. Google's DDPM "
            'networks have one head; for them write "attention_head_dim": null.',
            stacklevel=3,
        )
    own = {name: value for name, value in config.items() if not name.startswith("_") and name not in NO_ARCHITECTURE}
    try:
        for name, only in ONLY.items():
            if own.pop(name, only) != only:
                raise ValueError(f"{name} must be {only!r}; received {config[name]!r}")
        side = Annotated[int, Bounds(1, 2**12)]
        size = config.get("sample_size")
        sides = checked([size, size] if isinstance(size, int) else size, tuple[side, ...], "sample_size")
        shape = (checked(channels, Annotated[int, Bounds(1, 2**10)], "in_channels"), *sides)
        architecture = from_json(UNetArchitecture, own, "the configuration")
        architecture.keywords(shape)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"The U-Net of {path} cannot be built: {error}") from error
    return architecture, shape


def read_scheduler(config: Mapping[str, Any], path: Path) -> SchedulerConfig:
    """The betas and the prediction in a scheduler's configuration.

    Raises CheckpointError for a learned variance, a class that is not in `SCHEDULERS`, and alpha_bar_T = 0.
    """
    variance = str(config.get("variance_type"))
    name = config.get("_class_name")
    refused = ""
    if variance.startswith("learned"):
        refused = f"has variance_type {variance!r}: a learned variance, which a step table has no place for"
    elif name not in SCHEDULERS:
        refused = f"is of class {name!r}, and only {list(SCHEDULERS)} are read"
    elif config.get("rescale_betas_zero_snr"):
        refused = (
            "has rescale_betas_zero_snr, so that its last level is pure noise (alpha_bar 0), where eps says nothing"
        )
    if refused:
        raise CheckpointError(f"{path} {refused}. Give a network that was trained on one of the DDPM schedules.")
    known = {f.name for f in fields(SchedulerConfig)}
    try:
        return from_json(SchedulerConfig, {k: v for k, v in config.items() if k in known}, "it")
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is no scheduler whose schedule is known here: {error}") from error


def read_unet_weights(folder: Path, *unet: str) -> dict[str, Tensor]:
    """The weights (any shape) in a U-Net's folder, safetensors first, under diffusers' names of today."""
    found = [path for name in WEIGHTS if (path := inside(folder, *unet, name)) is not None]
    if not found:
        raise CheckpointError(
            f"{folder.joinpath(*unet)} holds no weights: neither {WEIGHTS[0]} nor {WEIGHTS[1]} is there. Save the "
            "network in one file, unet.save_pretrained(folder)."
        )
    pattern = re.compile(rf"(\.attentions\.\d+\.)({'|'.join(OLD_ATTENTION)})\.")
    weights = read_weights(found[0])
    return {pattern.sub(lambda m: f"{m[1]}{OLD_ATTENTION[m[2]]}.", name): one for name, one in weights.items()}
