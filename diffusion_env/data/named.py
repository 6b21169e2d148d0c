"""Data sets by name, NAME:PATH or path: generated 2-D sets, named image sets, and a user's own points or images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.data import distributions as toy
from diffusion_env.data.dataset import HELD_OUT_BRANCH, TRAIN_BRANCH, Dataset, Draw, stream
from diffusion_env.data.files import read_array
from diffusion_env.data.image_sets import IMAGE_SETS
from diffusion_env.data.pixels import ImageSource
from diffusion_env.data.places import name_and_place

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
DATASET_NAMES = (*DATASETS, *IMAGE_SETS)
"""Every name that `load_dataset` knows."""


def load_dataset(dataset: str | Path | Dataset, seed: int = 0) -> Dataset:
    """A data set by name, by path to a ``.npz`` or ``.npy`` file or a folder of images, or the one given, on the CPU.

    Args:
        dataset: one of `DATASET_NAMES`; NAME:PATH, an image set of that name with its files at a place of your own; a
            path; or a ``Dataset``, which is returned as it is.
        seed: fixes the pools of a generated set, or the 80/20 split of a set without test images of its own.

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
    name, place = name_and_place(dataset)
    if name in IMAGE_SETS:
        return _named_images(name, place, seed)
    path = Path(dataset)
    if not str(dataset) or not _exists(path):
        raise ValueError(
            f"Dataset {str(dataset)!r} is neither a known name nor an existing path. Known names: "
            f"{', '.join(DATASET_NAMES)}. A path leads to a .npz file of points (N, D) or images "
            "(N, C, H, W), to a .npy file, or to a folder of images. NAME:PATH says where the files of a named image "
            "set lie, such as cifar10:cifar-10-python.tar.gz."
        )
    array = read_array(path)
    if isinstance(array, np.ndarray) and array.dtype != np.uint8:
        return _from_points(path.stem, array, seed)
    return Dataset.of_images(path.stem, *_split_images(array, seed))


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
        named=True,
    )


def _named_images(name: str, place: Path | None, seed: int) -> Dataset:
    images = IMAGE_SETS[name]
    place = images.found(name, place)
    train, held_out = images.read(place)
    if train.shape[1:] != images.shape:
        raise ValueError(
            f"{name} has images of shape {images.shape} (channels, height, width), and those at {place} have "
            f"{train.shape[1:]}. Give the original files, or give the path without {name}: for a set of your own."
        )
    parts = _split_images(train, seed) if held_out is None else (_kept(train), _kept(held_out))
    return Dataset.of_images(name, *parts, images.highest, images.flips, named=True)


def _split_images(images: NDArray[Any] | ImageSource, seed: int) -> tuple[Tensor | ImageSource, Tensor | ImageSource]:
    order, cut = _order(images.shape[0], seed)
    train, held_out = (
        _kept(images[rows] if isinstance(images, np.ndarray) else images.part(rows))
        for rows in (order[:cut], order[cut:])
    )
    return train, held_out


def _kept(images: NDArray[Any] | ImageSource) -> Tensor | ImageSource:
    """Images in memory as a tensor (N, C, H, W) uint8."""
    if not isinstance(images, np.ndarray):
        return images
    return torch.from_numpy(images if images.flags.writeable else images.copy())


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
    order, cut = _order(len(array), seed)
    return array[order[:cut]], array[order[cut:]]


def _order(count: int, seed: int) -> tuple[NDArray[np.int64], int]:
    """All rows in random order, and how many of them are for training."""
    return np.random.default_rng(seed).permutation(count), int(TRAIN_SHARE * count)
