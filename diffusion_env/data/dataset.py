"""A data set: training and held-out points, and the map between network and data units.

Two units are in use. *Data units* are those of the source (swiss roll / 20, pixel values 0..255): metrics are
reported in them. *Network units* are what the sampler sees: about unit variance for points, [-1, 1] for
images. Images are kept as uint8 (`diffusion_env.data.pixels.Pixels`) and become network units as they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.random import MT19937, RandomState, SeedSequence
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.data.pixels import WHITE, ImageSource, Pixels
from diffusion_env.fields import Positive, check_fields
from diffusion_env.shards import WHOLE, Shard

Array = TypeVar("Array", Tensor, NDArray[Any])
Draw = Callable[[int, RandomState], NDArray[np.float64]]

# Branches of numpy's seed tree. A training pool and fresh points come from different branches, so no choice
# of seeds can make them equal.
TRAIN_BRANCH, HELD_OUT_BRANCH, FRESH_BRANCH = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and held-out points, and the affine map between network and data units.

    Points are tensors (*batch, *shape) of any rank. Both pools are indexed by a slice or by integers (n,) and give
    float32 in network units; ``pool[:]`` is the whole of it. ``draw`` is set for generated sets only.
    """

    name: str
    train: Tensor | Pixels  # (N, *shape), network units
    held_out: Tensor | Pixels  # (M, *shape), network units, no point of ``train``
    center: Tensor  # broadcasts against shape, data units
    scale: Positive  # data units per network unit
    modes: Tensor | None = None  # (num_modes, *shape), data units: the means of an equal-weight mixture
    mode_std: Positive | None = None  # data units: the standard deviation of each component
    support_radius: Positive | None = None  # data units: farther than this from all data is off the support
    draw: Draw | None = None
    flips: bool = False  # whether `sample` mirrors every training image left to right with probability 1/2
    named: bool = False  # whether it is one of our named sets, so that what is shipped under its name is of these data

    def __post_init__(self) -> None:
        """TypeError for fields of another type, ValueError for points that are not finite or do not fit together."""
        check_fields(self)
        if self.train.shape[1:] != self.held_out.shape[1:]:
            raise ValueError(
                f"Dataset {self.name!r} got training points of shape {tuple(self.train.shape[1:])} and "
                f"held-out points of shape {tuple(self.held_out.shape[1:])}. Both must be (count, *shape) "
                "with one shape."
            )
        if self.flips and len(self.shape) != 3:
            raise ValueError(
                f"Dataset {self.name!r} has points of shape {self.shape} and flips. Only images (C, H, W) can be "
                "mirrored: leave flips out."
            )
        for part, points in (("training", self.train), ("held-out", self.held_out)):
            if isinstance(points, Pixels):  # checked when it was made
                continue
            if points.ndim < 2 or points.numel() == 0 or points.dtype != torch.float32:
                raise ValueError(
                    f"Dataset {self.name!r} got {part} points of shape {tuple(points.shape)} and {points.dtype}. They "
                    "must be float32 (count, *shape) with at least one point; scalars are written as (count, 1)."
                )
            if bad := int((~points.flatten(1).isfinite().all(1)).sum()):
                raise ValueError(
                    f"Dataset {self.name!r} holds {bad} {part} points with values that are NaN or infinite among "
                    f"{len(points)}. All values must be finite. Remove or repair these points."
                )

    @classmethod
    def of_images(
        cls,
        name: str,
        train: Tensor | ImageSource,
        held_out: Tensor | ImageSource,
        highest: float = WHITE,
        flips: bool = False,
        named: bool = False,
    ) -> Dataset:
        """A set of images (N, C, H, W), uint8 with values 0 ... ``highest``, which become -1 ... 1.

        A tensor stays as it is, on its device; a source is read as it is drawn. ``flips``: training images are mirrored
        left to right with probability 1/2 as they are drawn.

        Raises ValueError for images of another type or rank, or of two shapes.
        """
        pools = Pixels(train, highest), Pixels(held_out, highest)
        return cls(name, *pools, torch.tensor(highest / 2.0), highest / 2.0, flips=flips, named=named)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one point."""
        return tuple(self.train.shape[1:])

    @property
    def device(self) -> torch.device:
        """Where the points are kept and drawn."""
        return self.train.device

    @property
    def mode_radius(self) -> float | None:
        """Data units: a sample within three standard deviations of a mean counts for its mode."""
        return None if self.mode_std is None else 3.0 * self.mode_std

    @property
    def mixture(self) -> tuple[Tensor, float] | None:
        """Means (num_modes, *shape) and standard deviation of the exact mixture, network units."""
        if self.modes is None or self.mode_std is None:
            return None
        return self.from_data(self.modes), self.mode_std / self.scale

    def sample(
        self, n: int, generator: torch.Generator | None = None, held_out: bool = False, shard: Shard = WHOLE
    ) -> Tensor:
        """``n`` points (n, *shape) in network units, drawn with replacement on the data set's device.

        Of a set with ``flips``, each training image is mirrored with probability 1/2; held-out images never are. Of
        several processes each gets its ``shard`` of the points, n // size.
        """
        pool = self.held_out if held_out else self.train
        x = pool[shard.own(torch.randint(len(pool), (n,), generator=generator, device=self.device))]
        if held_out or not self.flips:
            return x
        mirrored = shard.own(torch.rand(n, generator=generator, device=self.device)) < 0.5
        return torch.where(mirrored.reshape(-1, 1, 1, 1), x.flip(-1), x)

    def to_data(self, x: Array) -> Array:
        """Network units to data units; a tensor gives a tensor, a numpy array a numpy array."""
        center: Array = self._center_like(x)
        return x * self.scale + center

    def from_data(self, x: Array) -> Array:
        """Data units to network units; the inverse of ``to_data``."""
        center: Array = self._center_like(x)
        return (x - center) / self.scale

    def _center_like(self, x: Array) -> Array:
        return self.center.to(x.device) if isinstance(x, Tensor) else self.center.cpu().numpy()

    def fresh(self, n: int, seed: int) -> Tensor:
        """``n`` points (n, *shape) in data units, none of them a training point, on the data set's device.

        A generated set draws new points; any other set takes held-out points without replacement, so the way
        to get two disjoint sets is to ask for both at once and split them.

        Raises:
            ValueError: a set that cannot be generated has fewer than ``n`` held-out points.
        """
        if self.draw is not None:
            points = self.draw(n, stream(seed, FRESH_BRANCH))
            return torch.as_tensor(points, dtype=torch.float32).to(self.device)
        if n > len(self.held_out):
            raise ValueError(
                f"{n} fresh points were asked of dataset {self.name!r}, which holds {len(self.held_out)} "
                "held-out points and cannot generate more. Ask for fewer, or supply more data (a fifth is "
                "held out)."
            )
        order = np.random.default_rng(seed).permutation(len(self.held_out))[:n]
        return self.to_data(self.held_out[torch.as_tensor(order, device=self.device)])

    def to(self, device: torch.device | str) -> Dataset:
        """A copy on ``device``."""
        return replace(
            self,
            train=self.train.to(device),
            held_out=self.held_out.to(device),
            center=self.center.to(device),
            modes=None if self.modes is None else self.modes.to(device),
        )


def stream(seed: int, branch: int) -> RandomState:
    """The random numbers of one branch of ``seed``'s tree."""
    return RandomState(MT19937(SeedSequence(seed, spawn_key=(branch,))))
