"""Data sets by name or path: generated 2-D sets, named image sets, and a user's own points or images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffusion_env.data import distributions as toy
from diffusion_env.data.dataset import HELD_OUT_BRANCH, TRAIN_BRANCH, Dataset, Draw, stream
from diffusion_env.data.files import read_array

TRAIN_POINTS = 1_000_000
HELD_OUT_POINTS = 100_000
TRAIN_SHARE = 0.8


@dataclass(frozen=True)
class GeneratedSet:
    """A set that is drawn from a known law. Its constants are fixed numbers, because shipped weights depend on them."""

    draw: Draw
    center: tuple[float, ...]  # data units, the mean of the distribution
    scale: float  # data units, the root of the variance averaged over the dimensions
    modes: NDArray[np.float64] | None = None  # data units
    mode_std: float | None = None  # data units
    support_radius: float | None = None  # data units; None if no published result uses one


DATASETS: dict[str, GeneratedSet] = {
    "swiss_roll": GeneratedSet(toy.swiss_roll, (0.1001, 0.0107), 0.33945, support_radius=0.03),
    "moons": GeneratedSet(toy.moons, (0.5, 0.25), 0.70682),
    "gaussians8": GeneratedSet(toy.gaussians8, (0.0, 0.0), 2.03132, toy.RING8, toy.RING8_STD),
    "gaussians25": GeneratedSet(toy.gaussians25, (0.0, 0.0), 1.00030, toy.GRID25, toy.GRID25_STD),
    "checkerboard": GeneratedSet(toy.checkerboard, (0.0, 0.0), 1.15470),
    "pinwheel": GeneratedSet(toy.pinwheel, (0.0, 0.0), 0.74162),
    "rings": GeneratedSet(toy.rings, (0.0, 0.0), 1.52793),
    "spirals": GeneratedSet(toy.spirals, (0.0, 0.0), 0.75060),
}
DIGITS = "digits"


@dataclass(frozen=True)
class ImageSet:
    """A set of images that is read as a whole."""

    read: Callable[[], NDArray[Any]]  # images (N, C, H, W), values 0 ... highest
    highest: float  # the value that becomes 1 in network units; 0 becomes -1


def read_digits() -> NDArray[Any]:
    """scikit-learn's 1,797 handwritten digits, (1797, 1, 8, 8) float64, values 0 ... 16."""
    from sklearn.datasets import load_digits

    images: NDArray[Any] = load_digits().images[:, None]
    return images


IMAGE_SETS: dict[str, ImageSet] = {DIGITS: ImageSet(read_digits, 16.0)}
DATASET_NAMES = (*DATASETS, *IMAGE_SETS)
"""Every name that `load_dataset` knows."""


def load_dataset(dataset: str | Path | Dataset, seed: int = 0) -> Dataset:
    """A data set by name, by path to a ``.npz`` file or a folder of images, or the one given, on the CPU.

    Args:
        dataset: one of `DATASET_NAMES`, a path, or a ``Dataset``, which is returned as it is.
        seed: fixes the pools of a generated set, or the 80/20 split of any other.

    Raises:
        TypeError: what is neither a name, nor a path, nor a ``Dataset``.
        ValueError: an unknown name, or a file that cannot be used; the message says what is allowed.
    """
    if isinstance(dataset, Dataset):
        return dataset
    if not isinstance(dataset, str | Path):
        raise TypeError(
            f"A data set is a name, a path or a Dataset; received {type(dataset).__name__}. Known names: "
            f"{', '.join(DATASET_NAMES)}. Save points (N, D) with numpy.savez(path, x=points) and give the path, or "
            "make a diffusion_env.data.dataset.Dataset of training and held-out points."
        )
    if str(dataset) in DATASETS:
        return _generate(str(dataset), seed)
    if str(dataset) in IMAGE_SETS:
        images = IMAGE_SETS[str(dataset)]
        return _from_images(str(dataset), images.read(), images.highest, seed)
    path = Path(dataset)
    if not str(dataset) or not _exists(path):
        raise ValueError(
            f"Dataset {str(dataset)!r} is neither a known name nor an existing path. Known names: "
            f"{', '.join(DATASET_NAMES)}. A path leads to a .npz file of points (N, D) or images "
            "(N, C, H, W), or to a folder of images."
        )
    array = read_array(path)
    if array.dtype == np.uint8:
        return _from_images(path.stem, array, 255.0, seed)
    return _from_points(path.stem, array, seed)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, not to be entered, or with a zero byte
        return False


@lru_cache(maxsize=8)  # to draw a pool takes a few tenths of a second, and programs make many environments
def _generate(name: str, seed: int) -> Dataset:
    law = DATASETS[name]
    train, held_out = (
        torch.as_tensor((law.draw(n, stream(seed, branch)) - law.center) / law.scale, dtype=torch.float32)
        for n, branch in ((TRAIN_POINTS, TRAIN_BRANCH), (HELD_OUT_POINTS, HELD_OUT_BRANCH))
    )
    modes = None if law.modes is None else torch.as_tensor(law.modes, dtype=torch.float32)
    return Dataset(
        name,
        train,
        held_out,
        torch.tensor(law.center),
        law.scale,
        modes,
        law.mode_std,
        law.support_radius,
        law.draw,
    )


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
