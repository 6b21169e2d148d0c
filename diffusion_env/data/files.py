"""Read a user's data into one checked numpy array: a ``.npz`` of points or images, or a folder of images."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

MIN_POINTS = 10
NPZ_KEYS = ("x", "data", "images", "arr_0")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
CHANNEL_COUNTS = (1, 3, 4)
HOW_TO_WRITE = "Write it with numpy.savez(path, x=array)."


def read_array(path: Path) -> NDArray[Any]:
    """Float64 points (N, *shape) or uint8 images (N, C, H, W) from a ``.npz`` file or a folder of images.

    Raises:
        ValueError: the file cannot be read as data; the message says what was found and what is allowed.
    """
    return check_array(read_folder(path) if path.is_dir() else read_npz(path), str(path))


def read_npz(path: Path) -> NDArray[Any]:
    """The only array of a ``.npz`` file, or the first named as in ``NPZ_KEYS``."""
    with _open_npz(path) as archive:
        key = _npz_key(archive.files, path)
        try:
            return np.asarray(archive[key])
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as error:
            raise ValueError(
                f"The array {key!r} of {path} cannot be read ({error}). Only whole arrays of plain numbers "
                "are read, never pickled objects: write the file with numpy.savez(path, x=array) from a "
                "float32 or uint8 array."
            ) from error


def _open_npz(path: Path) -> NpzFile:
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"{path} cannot be opened as a .npz archive ({error}). {HOW_TO_WRITE}") from error
    if not isinstance(archive, NpzFile):
        raise ValueError(f"{path} is a single .npy array, not a .npz archive. {HOW_TO_WRITE}")
    return archive


def _npz_key(files: list[str], path: Path) -> str:
    if len(files) == 1:
        return files[0]
    named = [key for key in NPZ_KEYS if key in files]
    if not named:
        raise ValueError(
            f"{path} holds {len(files)} arrays ({', '.join(files) or 'none'}) and it is unclear which is the "
            f"data. Keep one array in the file, or name the data one of {', '.join(NPZ_KEYS)}."
        )
    return named[0]


def read_folder(path: Path) -> NDArray[np.uint8]:
    """All images directly inside a folder, in the order of their names, as (N, C, H, W).

    C is 1 if every image is grey and 3 otherwise.
    """
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(
            f"The folder {path} holds no image. Images directly inside it are read, with one of the suffixes "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    images = [_read_image(file) for file in files]
    colour = any(image.shape[0] == 3 for image in images)
    _check_sizes(files, images)
    return np.stack([np.broadcast_to(image, (3, *image.shape[1:])) if colour else image for image in images])


def _read_image(file: Path) -> NDArray[np.uint8]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            grey = image.mode in ("1", "L")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read as an image ({error}). Repair it or take it out.") from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _check_sizes(files: list[Path], images: list[NDArray[np.uint8]]) -> None:
    first = images[0].shape[1:]
    for file, image in zip(files, images, strict=True):
        if image.shape[1:] != first:
            raise ValueError(
                f"The images of a folder must all have one size: {files[0].name} is {first[0]} x {first[1]} "
                f"but {file.name} is {image.shape[1]} x {image.shape[2]} (height x width). Resize or crop "
                "them first."
            )


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
