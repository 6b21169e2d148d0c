"""What a kind of denoiser offers: it is built from numbers and names, says what it predicts, and is saved and read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import (
    CheckpointError,
    Header,
    load_module,
    load_object,
    numbers_in,
    refuse_larger,
    save_object,
)
from diffusion_env.fields import Bounds, Count, Depth, Width, check_fields, from_json
from diffusion_env.networks.layers import weights_at_most
from diffusion_env.samplers.predictions import check_prediction
from diffusion_env.samplers.schedules import SCHEDULES, NoiseSchedule, make_schedule


@dataclass(frozen=True)
class NetworkConfig:
    """What a network is built from again: the ``config`` of its header."""

    shape: tuple[Count, ...]
    """Of one event."""
    schedule: str
    """Name of the noise schedule."""
    num_levels: Annotated[int, Bounds(1, 2**20)]
    """T, its number of levels."""
    width: Width
    """Units (or channels) of each layer."""
    depth: Depth
    """Number of layers (or blocks)."""
    output: str = "v_prediction"
    """What the layers put out."""

    def __post_init__(self) -> None:
        check_fields(self)


class NetworkDenoiser(nn.Module):
    """Base of every kind in `DENOISERS`: a subclass names its ``kind``, makes its layers, and writes ``forward``.

    ``forward(x, time)`` takes x (N, *shape), which is x_t / scale_t, and training levels time (N,), and answers
    ``prediction`` (N, *shape). A subclass may convert ``output`` itself and answer "epsilon", as `EpsMLP` does, or set
    ``prediction = output`` and leave it to `as_denoiser`; with ``broadcasts_time`` it takes any batch shape, see there.

    Args:
        shape: of one event.
        schedule: the Gaussian path it is trained on.
        width: units (or channels) of its layers.
        depth: number of its layers (or blocks).
        generator: of the initial weights, which the subclass draws; None is a generator of its own.
        output: what the layers put out, a name in `PREDICTIONS`; pretraining makes the squared error of this small.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type[NetworkConfig]] = NetworkConfig
    """What the header of a saved network holds; a kind that needs more has a subclass of its own."""
    prediction: str = "epsilon"
    scaled_input = True
    broadcasts_time = False

    def __init__(
        self,
        shape: tuple[int, ...],
        schedule: NoiseSchedule,
        width: int,
        depth: int,
        generator: torch.Generator | None = None,
        output: str = "v_prediction",
    ) -> None:
        super().__init__()
        self.shape, self.schedule, self.width, self.depth = tuple(shape), schedule, width, depth
        self.output = check_prediction(output)

    @classmethod
    def default_size(cls, shape: tuple[int, ...]) -> tuple[int, int]:
        """Width and depth that pretraining takes for events of ``shape`` where none are given."""
        return 128, 3

    @classmethod
    def from_config(cls, config: Any, weights: Mapping[str, Tensor]) -> Self:
        """The network of ``config``, of `config_class`, before ``weights`` (any shape) are loaded into it.

        A kind whose size does not follow from width and depth alone compares it with the weights, before it takes
        memory for what a forged header promises.
        """
        schedule = make_schedule(config.schedule, config.num_levels)
        return cls(config.shape, schedule, config.width, config.depth, output=config.output)

    @property
    def config(self) -> NetworkConfig:
        """What `from_saved` builds it from."""
        schedule = self.schedule
        return NetworkConfig(self.shape, schedule.name, schedule.num_levels, self.width, self.depth, self.output)

    def save(self, path: str | Path, metadata: dict[str, object] | None = None) -> Path:
        """Write weights and `config` to one safetensors file, atomically.

        Raises ValueError for a schedule that `make_schedule` does not give back from its name and T.
        """
        _refuse_unnamed(self.schedule)
        header = Header("denoiser", self.kind, asdict(self.config), metadata or {})
        return save_object(path, header, {"weights": dict(self.state_dict())})

    @classmethod
    def from_saved(cls, state: Any, header: Header, path: str | Path) -> Self:
        """The network that `load_object` read from ``path``, frozen.

        Raises CheckpointError where the header's configuration is none, or the weights do not fit it.
        """
        try:
            config, weights = from_json(cls.config_class, header.config, "the configuration"), dict(state["weights"])
            refuse_larger(header.config, weights)
            with weights_at_most(numbers_in(weights)):
                network = cls.from_config(config, weights)
        except ImportError:  # a library that is not installed, which the sentence names
            raise
        except Exception as error:  # what is wrong with a forged header shows in many ways
            raise CheckpointError(
                f"The denoiser in {path} cannot be built from its file: {error}. Pass a file that "
                f"{cls.__name__}.save wrote."
            ) from error
        load_module(network, weights, f"the denoiser in {path}")
        return network.requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` of this kind wrote; CheckpointError if the file is anything else."""
        state, header = load_object(path, "denoiser")
        if header.name != cls.kind:
            raise CheckpointError(
                f"{path} holds a denoiser of kind {header.name!r}, but an {cls.kind!r} was to be loaded. "
                "`load_denoiser` reads any kind."
            )
        return cls.from_saved(state, header, path)


def _refuse_unnamed(schedule: NoiseSchedule) -> None:
    if schedule.name in SCHEDULES:
        named = make_schedule(schedule.name, schedule.num_levels)
        columns = ((getattr(s, column) for s in (named, schedule)) for column in ("alpha", "sigma", "alpha_bar"))
        if all(np.array_equal(a, b) for a, b in columns):
            return
    raise ValueError(
        f"A denoiser is saved with the name and number of levels of its schedule, but {schedule.name!r} with "
        f"{schedule.num_levels} levels is not the schedule of that name. Use make_schedule with one of "
        f"{sorted(SCHEDULES)}, or add the schedule to diffusion_env.samplers.schedules.SCHEDULES."
    )
