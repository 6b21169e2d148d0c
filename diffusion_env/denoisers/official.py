r"""Checkpoints of the image networks of DDPM's PyTorch port, FastDPM and SFT-PG, whose ``model.py`` is one file.

Letters: L resolutions, numbered 0 ... L - 1 from the finest; C_i = ch * mult_i channels of resolution i.

The state dict says ch, mult, the number of residual blocks and where attention is; what it cannot say is the same for
all of them: attention is at 16 pixels, the schedule is linear (1e-4 ... 0.02, T = 1000), eps is predicted, groups of 32
with eps 1e-6, one head, sine before cosine. Their network is diffusers' ``UNet2DModel`` under other names, and each
setting below changes its answer where it is another: see `architecture_of`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.checkpoints.foreign import read_torch, state_dict
from diffusion_env.denoisers.unet import MOST_LEVELS, DownBlock, UNetArchitecture, UNetDenoiser, UpBlock
from diffusion_env.samplers.schedules import make_schedule

ATTENTION_PIXELS = 16
WRAPPERS = ("model", "state_dict")
"""Keys under which a file may hold the state dict."""
EMA_ITEM = 4
"""Place of the averaged weights in a list (model, optimizer, epoch, step, average), as DDIM's code saves it."""
BLOCK = {"temb_proj": "time_emb_proj", "nin_shortcut": "conv_shortcut"}
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
WHOLE = {
    "temb.dense.0": "time_embedding.linear_1",
    "temb.dense.1": "time_embedding.linear_2",
    "conv_in": "conv_in",
    "conv_out": "conv_out",
    "norm_out": "conv_norm_out",
}
"""Layers outside the blocks: official name -> name in diffusers."""


def read_official(path: Path) -> UNetDenoiser:
    """The network in a ``.ckpt`` or ``.pth`` file of one of these projects, frozen, averaged weights where it has both.

    Raises CheckpointError for a file of anything else, which names the first keys; ImportError without diffusers.
    """
    official = unwrapped(read_torch(path), path)
    architecture, shape = architecture_of(official, path)
    last = len(architecture.block_out_channels) - 1
    names = {name: diffusers_name(name, last) for name in official}
    if unknown := sorted(name for name, new in names.items() if new is None):
        raise CheckpointError(
            f"{path} is no checkpoint of FastDPM's or SFT-PG's image network: {len(unknown)} of its {len(names)} keys "
            f"are not among theirs, the first {unknown[:3]}. Give another file."
        )
    weights = {str(names[name]): _as_matrix(str(names[name]), weight) for name, weight in official.items()}
    return UNetDenoiser.of_weights(shape, make_schedule("linear"), "epsilon", architecture, weights, str(path))


def unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict (weights of any shape by official name) in whatever these projects have put around it.

    A plain dict, a dict under one of `WRAPPERS`, a list whose item 4 is the average; names may start with "module.".
    """
    if isinstance(content, list | tuple) and len(content) > EMA_ITEM:
        content = content[EMA_ITEM]
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    return {name.removeprefix("module."): weight for name, weight in state_dict(content, path).items()}


def architecture_of(official: Mapping[str, Tensor], path: Path) -> tuple[UNetArchitecture, tuple[int, int, int]]:
    """The architecture and the shape (C, H, W) of the images, read off the shapes of the ``official`` weights.

    Raises CheckpointError where a weight that says so is missing, or attention is at no or several resolutions.
    """
    try:
        channels = int(official["conv_in.weight"].shape[1])
        found = {match[1] for name in official if (match := re.match(r"down\.(\d+)\.block\.0\.", name))}
        levels = range(len(found))
        outputs = tuple(int(official[f"down.{i}.block.0.conv2.weight"].shape[0]) for i in levels)
        (attended,) = (i for i in levels if f"down.{i}.attn.0.norm.weight" in official)
        if len(levels) > MOST_LEVELS:
            raise ValueError("too many resolutions")
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path} is no checkpoint of FastDPM's or SFT-PG's image network ({error!r}), which has 'conv_in.weight', "
            f"'down.0.block.0.conv2.weight' and attention at one resolution; its first keys are {sorted(official)[:3]}"
            ". Give another file, or a diffusers folder."
        ) from error
    blocks = sum(re.fullmatch(r"down\.0\.block\.\d+\.conv1\.weight", name) is not None for name in official)
    down: list[DownBlock] = ["AttnDownBlock2D" if i == attended else "DownBlock2D" for i in levels]
    up: list[UpBlock] = ["AttnUpBlock2D" if i == attended else "UpBlock2D" for i in reversed(levels)]
    side = ATTENTION_PIXELS * 2**attended
    try:
        architecture = UNetArchitecture(
            outputs,
            tuple(down),
            tuple(up),
            layers_per_block=blocks,
            attention_head_dim=None,  # diffusers' own default of 8 gives another answer
            norm_num_groups=32,
            norm_eps=1e-6,
            downsample_padding=0,  # pads on the right and below, as TensorFlow does
            flip_sin_to_cos=False,
            freq_shift=1,
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} holds no network that can be built: {error}") from error
    return architecture, (channels, side, side)


def diffusers_name(name: str, last: int) -> str | None:
    """The name in diffusers of the weight called ``name`` in a network with resolutions 0 ... ``last``; None if it has
    none."""
    layer, _, leaf = name.rpartition(".")
    if leaf not in ("weight", "bias"):
        return None
    if layer in WHOLE:
        return f"{WHOLE[layer]}.{leaf}"
    match layer.split("."):
        case ["down" | "up" as way, i, part, *rest] if i.isdecimal() and int(i) <= last:
            blocks = f"{way}_blocks.{i if way == 'down' else last - int(i)}"
            inner = f"{way}samplers.0.conv" if [part, *rest] == [f"{way}sample", "conv"] else _inner(part, rest)
        case ["mid", "block_1" | "block_2" | "attn_1" as part, *rest]:
            kind, number = part.split("_")
            blocks, inner = "mid_block", _inner(kind, [str(int(number) - 1), *rest])
        case _:
            return None
    return None if inner is None else f"{blocks}.{inner}.{leaf}"


def _inner(part: str, rest: list[str]) -> str | None:
    """The name inside a block of "block.j.layer" or "attn.j.layer"."""
    if len(rest) != 2 or not rest[0].isdecimal() or part not in ("block", "attn"):
        return None
    j, layer = rest
    if part == "block":
        return f"resnets.{j}.{BLOCK.get(layer, layer)}"
    return f"attentions.{j}.{ATTENTION[layer]}" if layer in ATTENTION else None


def _as_matrix(name: str, weight: Tensor) -> Tensor:
    """Kernels (C, C, 1, 1) of attention as the matrices (C, C) that diffusers has; other weights as they are."""
    is_kernel = ".attentions." in name and weight.ndim == 4 and weight.shape[2:] == (1, 1)
    return weight.flatten(1) if is_kernel else weight
