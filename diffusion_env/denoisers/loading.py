"""From a name, a path or a module to a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import Tensor

from diffusion_env.checkpoints import with_suffix
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.denoiser import Denoiser


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
