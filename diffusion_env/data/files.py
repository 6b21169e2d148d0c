"""A user's data, checked: a ``.npz`` or ``.npy`` of points or images, or a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_env.data.archives import read_npz
from diffusion_env.data.pixels import ImageSource, MappedImages

MIN_POINTS = 10
CHANNEL_COUNTS = (1, 3, 4)


def read_array(path: Path) -> NDArray[Any] | ImageSource:
    """Float64 points (N, *shape) or uint8 images (N, C, H, W) from a ``.npz`` or ``.npy`` file or a folder of images.

    Images in a ``.npy`` file are mapped into memory, and those of a large folder are decoded as they are drawn.

    Raises:
        ValueError: the file cannot be read as data; the message says what was found and what is allowed.
    """
    if path.is_dir():
        from diffusion_env.data.pictures import read_folder  # Pillow is not needed for points

        images = read_folder(path)
        return check_array(images, str(path)) if isinstance(images, np.ndarray) else images
    if path.suffix != ".npy":
        return check_array(read_npz(path), str(path))
    array = check_array(open_npy(path), str(path))
    return MappedImages(path, np.arange(len(array))) if array.dtype == np.uint8 else array


def open_npy(path: Path) -> NDArray[Any]:
    """The array of a ``.npy`` file, mapped into memory read-only; ValueError where it is none, or of objects."""
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file, so it is not read. Write it with numpy.save(path, images).")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except (ValueError, OSError, EOFError) as error:  # damaged, of objects, or fewer bytes than its shape promises
        raise ValueError(
            f"{path} cannot be mapped as a .npy array ({error}). Write it with numpy.save(path, images), uint8."
        ) from error


def check_array(array: NDArray[Any], source: str) -> NDArray[Any]:
    """``array`` as float64 points or uint8 (N, C, H, W); ValueError where it is neither."""
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(
            f"{source} holds an array of dtype {array.dtype}. Allowed are floating point (points) and uint8 "
            "(images with values 0..255). Convert it with array.astype('float32')."
        )
    if array.ndim < 2:
        raise ValueError(
            f"{source} holds an array of shape {array.shape}. The first axis counts the points and at least "
            "one more must follow: (N, D) points or (N, C, H, W) images. Scalars are written as (N, 1)."
        )
    if len(array) < MIN_POINTS or 0 in array.shape:
        raise ValueError(
            f"{source} holds an array of shape {array.shape}. At least {MIN_POINTS} non-empty points are "
            "needed to cut training from held-out data. Add points."
        )
    return _check_images(array, source) if array.dtype == np.uint8 else _check_points(array, source)


def _check_points(array: NDArray[Any], source: str) -> NDArray[np.float64]:
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(
            f"{source} holds {bad} values that are NaN or infinite among {array.size}. All values must be "
            "finite. Remove or repair the points that hold them."
        )
    return array.astype(np.float64)


def _check_images(array: NDArray[np.uint8], source: str) -> NDArray[np.uint8]:
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4 or (array.shape[1] not in CHANNEL_COUNTS and array.shape[3] in CHANNEL_COUNTS):
        raise ValueError(
            f"{source} holds uint8 of shape {array.shape}. uint8 means images, (N, H, W) or (N, C, H, W) "
            "with the channels before height and width. Transpose channels-last images with "
            "array.transpose(0, 3, 1, 2), or convert points with array.astype('float32')."
        )
    return array
