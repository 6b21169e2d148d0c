"""Data sets: named 2-D distributions, scikit-learn's digits, and a user's own points or images.

Two units are in use. *Data units* are those of the source (swiss roll / 20, pixel values 0..255): metrics are
reported in them. *Network units* are what the sampler sees: about unit variance for points, [-1, 1] for
images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.random import MT19937, RandomState, SeedSequence
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env import toy_distributions as toy
from diffusion_env.dataset_files import read_array

Array = TypeVar("Array", Tensor, NDArray[Any])
Draw = Callable[[int, RandomState], NDArray[np.float64]]

TRAIN_POINTS = 1_000_000
HELD_OUT_POINTS = 100_000
TRAIN_SHARE = 0.8

# Branches of numpy's seed tree. A training pool and fresh points come from different branches, so no choice
# of seeds can make them equal.
TRAIN_BRANCH, HELD_OUT_BRANCH, FRESH_BRANCH = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training and held-out points, and the affine map between network and data units.

    Points are tensors (*batch, *shape) of any rank. ``draw`` is set for generated sets only.
    """

    name: str
    train: Tensor  # (N, *shape), network units
    held_out: Tensor  # (M, *shape), network units, no point of ``train``
    center: Tensor  # broadcasts against shape, data units
    scale: float  # data units per network unit
    modes: Tensor | None = None  # (num_modes, *shape), data units: the means of an equal-weight mixture
    mode_std: float | None = None  # data units: the standard deviation of each component
    support_radius: float | None = None  # data units: farther than this from all data is off the support
    draw: Draw | None = None

    def __post_init__(self) -> None:
        if self.train.shape[1:] != self.held_out.shape[1:]:
            raise ValueError(
                f"Dataset {self.name!r} got training points of shape {tuple(self.train.shape[1:])} and "
                f"held-out points of shape {tuple(self.held_out.shape[1:])}. Both must be (count, *shape) "
                "with one shape."
            )

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

    def sample(self, n: int, generator: torch.Generator | None = None, held_out: bool = False) -> Tensor:
        """``n`` points (n, *shape) in network units, drawn with replacement on the data set's device."""
        pool = self.held_out if held_out else self.train
        return pool[torch.randint(len(pool), (n,), generator=generator, device=self.device)]

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
            points = self.draw(n, _rng(seed, FRESH_BRANCH))
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


@dataclass(frozen=True)
class GeneratedSet:
    """A row of ``DATASETS``. The constants are not estimated per seed: shipped weights depend on them."""

    draw: Draw
    center: tuple[float, ...]  # data units, the mean of the distribution
    scale: float  # data units, the root of the variance averaged over dimensions: one number, no distortion
    modes: NDArray[np.float64] | None = None  # data units
    mode_std: float | None = None  # data units
    support_radius: float | None = None  # data units; None where no published figure rests on one


DATASETS: dict[str, GeneratedSet] = {
    "swiss_roll": GeneratedSet(toy.swiss_roll, (0.1001, 0.0107), 0.33945, support_radius=0.03),
    "moons": GeneratedSet(toy.moons, (0.5, 0.25), 0.70682),
    "gaussians8": GeneratedSet(toy.gaussians8, (0.0, 0.0), 2.03132, toy.RING8, toy.RING8_STD),
    "gaussians25": GeneratedSet(toy.gaussians25, (0.0, 0.0), 1.00030, toy.GRID25, toy.GRID25_STD),
    "checkerboard": GeneratedSet(toy.checkerboard, (0.0, 0.0), 1.15470),
    "pinwheel": GeneratedSet(toy.pinwheel, (0.0, 0.0), 0.74162),
}
DIGITS = "digits"


def load_dataset(dataset: str | Path | Dataset, seed: int = 0) -> Dataset:
    """A data set by name, by path to a ``.npz`` file or a folder of images, or the one given, on the CPU.

    Args:
        dataset: a name of ``DATASETS``, ``"digits"``, a path, or a ``Dataset``, which is returned as it is.
        seed: fixes the pools of a generated set, or the 80/20 split of any other.

    Raises:
        ValueError: an unknown name, or a file that cannot be used; the message says what is allowed.
    """
    if isinstance(dataset, Dataset):
        return dataset
    if dataset in DATASETS:
        return _generate(str(dataset), seed)
    if dataset == DIGITS:
        return _load_digits(seed)
    path = Path(dataset)
    if not path.exists():
        raise ValueError(
            f"Dataset {str(dataset)!r} is neither a known name nor an existing path. Known names: "
            f"{', '.join([*DATASETS, DIGITS])}. A path leads to a .npz file of points (N, D) or images "
            "(N, C, H, W), or to a folder of images."
        )
    array = read_array(path)
    if array.dtype == np.uint8:
        return _from_images(path.stem, array, 255.0, seed)
    return _from_points(path.stem, array, seed)


def _rng(seed: int, branch: int) -> RandomState:
    return RandomState(MT19937(SeedSequence(seed, spawn_key=(branch,))))


@lru_cache(maxsize=8)  # drawing a pool takes a few tenths of a second, and environments are made by the dozen
def _generate(name: str, seed: int) -> Dataset:
    row = DATASETS[name]
    train, held_out = (
        torch.as_tensor((row.draw(n, _rng(seed, branch)) - row.center) / row.scale, dtype=torch.float32)
        for n, branch in ((TRAIN_POINTS, TRAIN_BRANCH), (HELD_OUT_POINTS, HELD_OUT_BRANCH))
    )
    modes = None if row.modes is None else torch.as_tensor(row.modes, dtype=torch.float32)
    return Dataset(
        name,
        train,
        held_out,
        torch.tensor(row.center),
        row.scale,
        modes,
        row.mode_std,
        row.support_radius,
        row.draw,
    )


def _load_digits(seed: int) -> Dataset:
    from sklearn.datasets import load_digits

    return _from_images(DIGITS, load_digits().images[:, None], 16.0, seed)


def _from_images(name: str, images: NDArray[Any], highest: float, seed: int) -> Dataset:
    """Images (N, C, H, W) with values 0..highest, mapped to [-1, 1]."""
    half = highest / 2.0
    train, held_out = (torch.as_tensor(part, dtype=torch.float32) for part in _split(images, seed))
    return Dataset(name, train / half - 1.0, held_out / half - 1.0, torch.tensor(half), half)


def _from_points(name: str, points: NDArray[np.float64], seed: int) -> Dataset:
    """Points (N, *shape), standardised by the mean per dimension and one scale, both of the training part."""
    train, held_out = _split(points, seed)
    center = train.mean(axis=0)
    scale = float(np.sqrt(train.var(axis=0).mean()))
    if not scale > 0.0:
        raise ValueError(
            f"All training points of dataset {name!r} are equal, so there is no scale to standardise by. "
            "Give points that vary."
        )
    train_points, held_out_points = (
        torch.as_tensor((part - center) / scale, dtype=torch.float32) for part in (train, held_out)
    )
    return Dataset(name, train_points, held_out_points, torch.as_tensor(center, dtype=torch.float32), scale)


def _split(array: NDArray[Any], seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    order = np.random.default_rng(seed).permutation(len(array))
    cut = int(TRAIN_SHARE * len(array))
    return array[order[:cut]], array[order[cut:]]
