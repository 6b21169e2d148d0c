"""From a name, a path or a module to a denoiser, and the table of kinds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import cast

from torch import Tensor

from diffusion_env.checkpoints import CheckpointError, load_object, with_suffix
from diffusion_env.checkpoints.foreign import TORCH_SUFFIXES
from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.diffusers_folder import is_diffusers_folder, read_folder
from diffusion_env.denoisers.dit import DiTDenoiser
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.official import read_official
from diffusion_env.denoisers.unet import UNetDenoiser
from diffusion_env.samplers.denoiser import Denoiser, as_denoiser

DENOISERS: dict[str, type[NetworkDenoiser]] = {kind.kind: kind for kind in (EpsMLP, UNetDenoiser, DiTDenoiser)}
"""Kind -> class. A file's header and `PretrainConfig.kind` are looked up here; a new kind is one line."""


def denoiser_class(kind: str) -> type[NetworkDenoiser]:
    """The class of ``kind``; ValueError lists the kinds."""
    if kind not in DENOISERS:
        raise ValueError(f"Unknown kind of denoiser {kind!r}. Choose one of {sorted(DENOISERS)}.")
    return DENOISERS[kind]


def shipped_weights(name: str) -> Path:
    """Where the package keeps the network of the data set called ``name`` (the file need not exist)."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def shipped_names() -> list[str]:
    """Names of the data sets whose networks the package brings."""
    return sorted(path.stem for path in shipped_weights("x").parent.glob("*.safetensors"))


def load_denoiser(
    denoiser: str | Path | Callable[[Tensor, Tensor], Tensor] | None, dataset_name: str, shape: tuple[int, ...]
) -> Denoiser:
    """The reference network: a module, the name of shipped weights, a path, or None for those shipped for the data set.

    A module that is no `Denoiser` yet (it predicts something else, or lives in other coordinates) is adapted, see
    `as_denoiser`.

    Raises FileNotFoundError where no such weights are, CheckpointError for a file of no known kind, TypeError for what
    is no denoiser, ValueError where its event shape is not ``shape`` or its ``prediction`` is unknown.
    """
    if denoiser is None or isinstance(denoiser, (str, Path)):
        network: Denoiser = read_denoiser(_weights_path(dataset_name if denoiser is None else denoiser))
    else:
        network = _checked(denoiser)
    if tuple(network.shape) != tuple(shape):
        raise ValueError(
            f"The denoiser works on events of shape {tuple(network.shape)} but the data have shape {tuple(shape)}. "
            "Give a denoiser pretrained on this data."
        )
    return as_denoiser(network)


def read_denoiser(path: str | Path) -> NetworkDenoiser:
    """The network at ``path``, frozen: what `NetworkDenoiser.save` wrote, of whatever kind in `DENOISERS`; a folder of
    diffusers, see `read_folder`; or a ``.ckpt`` or ``.pth`` file of FastDPM or SFT-PG, see `read_official`.

    Raises CheckpointError for a file of anything else, ImportError where a U-Net is read without diffusers.
    """
    path = Path(path)
    if is_diffusers_folder(path):
        return read_folder(path)
    if path.suffix in TORCH_SUFFIXES and path.is_file():
        return read_official(path)
    state, header = load_object(path, "denoiser")
    if header.name not in DENOISERS:
        raise CheckpointError(
            f"{path} holds a denoiser of kind {header.name!r}; the known kinds are {sorted(DENOISERS)}. Add its class "
            "to diffusion_env.denoisers.loading.DENOISERS before loading."
        )
    return DENOISERS[header.name].from_saved(state, header, path)


def _checked(denoiser: Callable[[Tensor, Tensor], Tensor]) -> Denoiser:
    if callable(denoiser) and hasattr(denoiser, "shape") and hasattr(denoiser, "schedule"):
        return cast(Denoiser, denoiser)
    raise TypeError(
        f"A denoiser is a callable (x, time) -> eps with attributes .shape (of one event) and .schedule (a "
        f"NoiseSchedule); received {type(denoiser).__name__}. Wrap it in such a module, or pass a path or a name. If "
        "it predicts something else than eps, it says so by an attribute .prediction."
    )


def _weights_path(name: str | Path) -> Path:
    shipped = shipped_names()
    if str(name) in shipped:
        return shipped_weights(str(name))
    with contextlib.suppress(OSError, ValueError):  # too long, empty, or with a zero byte: no such file
        path = Path(name)
        if str(name) and (is_diffusers_folder(path) or (path.suffix in TORCH_SUFFIXES and path.is_file())):
            return path
        if with_suffix(name).is_file():
            return with_suffix(name)
    raise FileNotFoundError(
        f"No pretrained denoiser for {str(name)!r}: it is neither a file nor one of the shipped {shipped}, nor a "
        "folder that diffusers wrote. Make one with `ddpm-shortcut pretrain --dataset ... --output ...` and pass its "
        "path as denoiser."
    )
