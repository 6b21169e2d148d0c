r"""The denoiser of images: diffusers' ``UNet2DModel``, kind "unet" (Ho et al. 2020, appendix B).

Letters: t our training level, 1 ... T; diffusers counts from zero, so its timestep is t - 1. Fractional timesteps are
taken as they are. The layers see x in the coordinates of the step table and answer what ``output`` names;
`diffusion_env.samplers.denoiser.as_denoiser` makes eps of it, and gives each sample of any batch its time.

diffusers is optional (``pip install 'ddpm-shortcut[images]'``) and imported only where a network is built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Self

import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import CheckpointError, differences, load_module
from diffusion_env.denoisers.base import NetworkConfig, NetworkDenoiser
from diffusion_env.fields import Bounds, Count, Positive, Width, check_fields
from diffusion_env.samplers.schedules import NoiseSchedule, make_schedule

MOST_LEVELS = 16
DEEPER_CHANNELS = 2
"""The channels of the deeper resolutions, in channels of the first."""
SMALLEST_GRID = 4
"""Pixels: by default the image is halved as long as its shorter side stays at least so long."""

Groups = Annotated[int, Bounds(1, 2**10)]
DownBlock = Literal["DownBlock2D", "AttnDownBlock2D"]
UpBlock = Literal["UpBlock2D", "AttnUpBlock2D"]
Resampling = Literal["conv", "resnet"]


@dataclass(frozen=True)
class UNetArchitecture:
    """Keywords of diffusers' ``UNet2DModel``, with its names and its defaults; a file may say nothing else.

    Images of classes, learned or Fourier time embeddings and blocks without a fixed number of weights are left out.
    Dropout is always off, in training too: with it, two evaluations of one policy would differ.

    Raises TypeError or ValueError for a value that is not among the choices.
    """

    block_out_channels: tuple[Width, ...]
    """Channels at each resolution, from the finest."""
    down_block_types: tuple[DownBlock, ...]
    """With or without attention, at each resolution."""
    up_block_types: tuple[UpBlock, ...]
    """The same on the way up, from the coarsest."""
    layers_per_block: Annotated[int, Bounds(1, 16)] = 2
    mid_block_type: Literal["UNetMidBlock2D", None] = "UNetMidBlock2D"
    mid_block_scale_factor: Positive = 1
    add_attention: bool = True
    """In the middle block."""
    attention_head_dim: Groups | None = 8
    """Channels of a head; None for one head."""
    norm_num_groups: Groups = 32
    attn_norm_num_groups: Groups | None = None
    norm_eps: Positive = 1e-5
    act_fn: Literal["silu", "swish", "mish", "gelu", "relu"] = "silu"
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    downsample_type: Resampling = "conv"
    upsample_type: Resampling = "conv"
    downsample_padding: Annotated[int, Bounds(0, 1)] = 1
    freq_shift: Annotated[int, Bounds(0, 1)] = 0
    flip_sin_to_cos: bool = True
    time_embedding_dim: Count | None = None
    center_input_sample: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        lengths = [len(one) for one in (self.block_out_channels, self.down_block_types, self.up_block_types)]
        if len(set(lengths)) > 1 or not 1 <= lengths[0] <= MOST_LEVELS:
            raise ValueError(
                f"block_out_channels, down_block_types and up_block_types have {lengths} entries. Give each one entry "
                f"per resolution, 1 to {MOST_LEVELS}."
            )
        if wrong := [c for c in self.block_out_channels if c % self.norm_num_groups]:
            raise ValueError(
                f"block_out_channels holds {wrong}, which {self.norm_num_groups} groups (norm_num_groups) do not divide"
                f". Give multiples of {self.norm_num_groups}."
            )

    def keywords(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Of ``UNet2DModel`` for images of ``shape`` (C, H, W).

        Raises ValueError for what is no image, and where a side cannot be halved often enough.
        """
        halvings = len(self.block_out_channels) - 1
        if len(shape) != 3 or any(side % 2**halvings for side in shape[1:]):
            raise ValueError(
                f"A U-Net of {halvings + 1} resolutions was asked for events of shape {tuple(shape)}. It takes images "
                f"(C, H, W) with H and W divisible by {2**halvings}. Use fewer resolutions (depth), or pad the images."
            )
        return {
            **asdict(self),
            "in_channels": shape[0],
            "out_channels": shape[0],
            "sample_size": shape[1] if shape[1] == shape[2] else tuple(shape[1:]),
            "dropout": 0.0,
        }


def small_architecture(width: int, depth: int) -> UNetArchitecture:
    """``depth`` resolutions, ``width`` channels at the finest and twice as many below, attention in the middle.

    One residual block per resolution and groups of 8: made for images of 8 to 32 pixels on a CPU. ``width`` is a
    multiple of 8.
    """
    channels = (width, *[DEEPER_CHANNELS * width] * (depth - 1))
    down: list[DownBlock] = ["DownBlock2D"] * depth
    up: list[UpBlock] = ["UpBlock2D"] * depth
    return UNetArchitecture(
        channels,
        tuple(down),
        tuple(up),
        layers_per_block=1,
        attention_head_dim=math.gcd(32, channels[-1]),
        norm_num_groups=8,
    )


def unet2d(architecture: UNetArchitecture, shape: tuple[int, ...]) -> Any:
    """diffusers' ``UNet2DModel`` for images of ``shape`` (C, H, W), its weights drawn from torch's global seed.

    Raises ImportError where diffusers is not installed, ValueError as `UNetArchitecture.keywords`.
    """
    keywords = architecture.keywords(shape)
    try:
        from diffusers.models.unets.unet_2d import UNet2DModel
    except ImportError as error:
        raise ImportError(
            f"A U-Net needs diffusers ({error}). Install it: pip install 'ddpm-shortcut[images]'"
        ) from error
    return UNet2DModel(**keywords)


def refuse_other_weights(
    architecture: UNetArchitecture, shape: tuple[int, ...], weights: Mapping[str, Any], what: str
) -> None:
    """CheckpointError, which names the first of them, where ``weights`` are not those of this U-Net.

    Nothing is allocated for ``shape`` (C, H, W), so no memory is taken for what a forged file promises.
    """
    try:
        with torch.device("meta"):
            expected = unet2d(architecture, shape).state_dict()
    except ImportError:
        raise
    except Exception as error:  # settings that do not go together fail in many ways inside diffusers
        raise CheckpointError(f"The U-Net of {what} cannot be built: {error}. Pass another file.") from error
    if found := differences(expected, weights):
        raise CheckpointError(f"{what} does not hold the weights of its U-Net: {found}. Pass another file.")


@dataclass(frozen=True)
class UNetConfig(NetworkConfig):
    """`NetworkConfig` with the architecture; None is `small_architecture` of width and depth."""

    architecture: UNetArchitecture | None = None


class UNetDenoiser(NetworkDenoiser):
    """A U-Net for images of ``shape`` (C, H, W): x (N, C, H, W) and levels (N,) to ``output`` (N, C, H, W).

    ``width``: channels at the finest resolution, a multiple of 8; ``depth``: resolutions. ``architecture`` replaces
    what both say. Other arguments as in `NetworkDenoiser`.

    Raises ValueError where a side of the image is not divisible by 2^(depth - 1), ImportError without diffusers.
    """

    kind = "unet"
    config_class = UNetConfig

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        width: int = 32,
        depth: int = 2,
        generator: torch.Generator | None = None,
        output: str = "v_prediction",
        architecture: UNetArchitecture | None = None,
    ) -> None:
        if architecture is not None:
            width, depth = architecture.block_out_channels[0], len(architecture.block_out_channels)
        super().__init__(shape, schedule, width, depth, generator, output)
        self.prediction, self.architecture = self.output, architecture or small_architecture(width, depth)
        generator = generator or torch.Generator().manual_seed(0)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):  # diffusers draws from torch's global seed, which is put back
            torch.manual_seed(seed)
            self.unet: nn.Module = unet2d(self.architecture, self.shape)

    @classmethod
    def default_size(cls, shape: tuple[int, ...]) -> tuple[int, int]:
        """32 channels; halved while both sides are even and at least `SMALLEST_GRID` pixels remain."""
        sides, depth = shape[1:] or (1,), 1
        while all(side % 2**depth == 0 and side // 2**depth >= SMALLEST_GRID for side in sides):
            depth += 1
        return 32, depth

    @classmethod
    def from_config(cls, config: UNetConfig, weights: Mapping[str, Tensor]) -> Self:
        """The network of ``config``, whose size is compared with ``weights`` (any shape) first."""
        architecture = config.architecture or small_architecture(config.width, config.depth)
        own = {name.removeprefix("unet."): weight for name, weight in weights.items()}
        refuse_other_weights(architecture, config.shape, own, "the file")
        schedule = make_schedule(config.schedule, config.num_levels)
        return cls(config.shape, schedule, output=config.output, architecture=architecture)

    @classmethod
    def of_weights(
        cls,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        output: str,
        architecture: UNetArchitecture,
        weights: Mapping[str, Tensor],
        path: str,
    ) -> Self:
        """A frozen network of ``weights`` (any shape) under diffusers' names, which were read from ``path``.

        Raises CheckpointError where they are not all of this ``architecture``, ImportError without diffusers.
        """
        refuse_other_weights(architecture, shape, weights, path)
        network = cls(shape, schedule, output=output, architecture=architecture)
        load_module(network.unet, weights, path)
        return network.requires_grad_(False)

    @property
    def config(self) -> UNetConfig:
        """What `from_saved` builds it from."""
        return UNetConfig(**asdict(super().config) | {"architecture": self.architecture})

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """What ``output`` names, (N, C, H, W); see the class."""
        answer: Tensor = self.unet(x, time - 1).sample
        return answer
