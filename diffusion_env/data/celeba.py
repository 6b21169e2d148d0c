"""CelebA (Liu et al. 2015), aligned and cropped as in SFT-PG (Fan & Lee 2023) and DDIM: 64 x 64 around the face."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from diffusion_env.data.files import open_npy
from diffusion_env.data.pictures import Crop, ImageFiles
from diffusion_env.data.pixels import ImageSource, MappedImages

SIDE = 64
CENTER_ROW, CENTER_COLUMN, REACH = 121, 89, 64
FACE = Crop((178, 218), (CENTER_COLUMN - REACH, CENTER_ROW - REACH, CENTER_COLUMN + REACH, CENTER_ROW + REACH), SIDE)
"""Rows 57 ... 185 and columns 25 ... 153 of the aligned images, 178 x 218 (width x height)."""
PARTITION = "list_eval_partition.txt"
TRAIN, TEST = "0", "2"
FOLDERS = ("img_align_celeba", "Img/img_align_celeba")
PACKED = ("train.npy", "test.npy")
"""Names of the files that `pack_celeba` writes."""
PACKED_AT_A_TIME = 256
WAYS = f"Give the folder of the aligned .jpg files, img_align_celeba, with {PARTITION} inside or beside it."


def read_celeba(place: Path) -> tuple[ImageSource, ImageSource | None]:
    """Training and test images, (N, 3, 64, 64), decoded as they are drawn; None for the test images without a list.

    What `pack_celeba` wrote is mapped into memory instead.

    The list of partitions lies in the folder, above it, or in Eval/ there. Without it the caller splits.

    Raises ValueError: no folder, no image, or a list that names images that are not there.
    """
    if not place.is_dir():
        raise ValueError(f"{place} is not a folder. {WAYS}")
    train, test = (_mapped(place / name) for name in PACKED)
    if train is not None:
        return train, test
    folder = next((place / name for name in FOLDERS if (place / name).is_dir()), place)
    files = {file.name: file for file in sorted(folder.glob("*.jpg"))}
    if not files:
        raise ValueError(f"The folder {folder} holds no .jpg file. {WAYS}")
    lists = [above / name for above in (folder, *folder.parents[:2]) for name in (PARTITION, f"Eval/{PARTITION}")]
    found = next((path for path in lists if path.is_file()), None)
    if found is None:
        return _faces(list(files.values())), None
    parts = _partition(found, files)
    return _faces(parts[TRAIN]), _faces(parts[TEST])


def pack_celeba(place: Path, folder: Path, on_images: Callable[[int], object] = int) -> None:
    """Decode all images at ``place`` once into `PACKED` files in ``folder``, uint8 (N, 3, 64, 64), 12 KiB an image.

    ``on_images(n)`` is called for every n images that are done. Raises what `read_celeba` and an image raise; then
    ``folder`` stays as it was.
    """
    parts = [part for part in read_celeba(place) if part is not None]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        for part, name in zip(parts, PACKED, strict=False):
            packed = open_memmap(Path(temporary) / name, "w+", np.uint8, part.shape)
            for start in range(0, part.shape[0], PACKED_AT_A_TIME):
                rows = np.arange(start, min(start + PACKED_AT_A_TIME, part.shape[0]))
                packed[rows] = part.read(rows)
                on_images(len(rows))
            packed.flush()
        folder.mkdir(exist_ok=True)
        for name in PACKED:  # test images of an earlier packing may be training images of this one
            (folder / name).unlink(missing_ok=True)
        for name in PACKED[: len(parts)][::-1]:  # training images last: with them the set is there
            os.replace(Path(temporary) / name, folder / name)


def _mapped(path: Path) -> MappedImages | None:
    if not path.is_file():
        return None
    images = open_npy(path)
    if images.dtype != np.uint8 or images.shape[1:] != (3, SIDE, SIDE):
        raise ValueError(
            f"{path} holds {images.dtype} of shape {images.shape}, and packed CelebA is uint8 (N, 3, {SIDE}, {SIDE}). "
            "Pack it again: `ddpm-shortcut data celeba:PATH`."
        )
    return MappedImages(path, np.arange(len(images)))


def _faces(files: list[Path]) -> ImageFiles:
    return ImageFiles(tuple(files), (3, SIDE, SIDE), FACE)


def _partition(path: Path, files: dict[str, Path]) -> dict[str, list[Path]]:
    """The images of each part, of lines "000001.jpg 0"."""
    lines = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    parts: dict[str, list[Path]] = {TRAIN: [], TEST: []}
    for words in lines:
        if len(words) != 2 or words[0] not in files:
            raise ValueError(
                f"{path} has the line {' '.join(words)[:100]!r}, and each line is the name of one of the images and 0, "
                f"1 or 2. {WAYS}"
            )
        parts.setdefault(words[1], []).append(files[words[0]])
    if not (parts[TRAIN] and parts[TEST]):
        raise ValueError(f"{path} names no training image (0) or no test image (2). {WAYS}")
    return parts
