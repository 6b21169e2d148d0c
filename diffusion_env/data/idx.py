"""The IDX files of MNIST's family, plain or compressed with gzip: Fashion-MNIST (Xiao et al. 2017).

Format: two zero bytes, the type (8: uint8), the number of axes, then each axis as 4 bytes, the highest first, then the
values (http://yann.lecun.com/exdb/mnist).
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from diffusion_env.data.archives import MAX_EXPANSION

UINT8 = 8
PARTS = ("train", "t10k")
"""What the files of training and test images begin with."""
IMAGE_FILES = tuple(f"{part}-images-idx3-ubyte" for part in PARTS)


def read_idx(path: Path, axes: int = 3) -> NDArray[np.uint8]:
    """The uint8 array of an IDX file with so many axes, images (N, H, W) by default; ``.gz`` is expanded.

    Raises ValueError that names the file: not a regular file, another magic number, or more or fewer bytes than the
    header promises. No memory is taken for a promise: at most 200 times the size of a compressed file is read.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not a regular file, so it is not read. Give an IDX file.")
    compressed = path.suffix == ".gz"
    most = path.stat().st_size * (MAX_EXPANSION if compressed else 1)
    try:
        with path.open("rb") as file:
            return _read(cast(BinaryIO, gzip.GzipFile(fileobj=file)) if compressed else file, path, axes, most)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read ({error}): the file is damaged. Fetch it again.") from error


def _read(file: BinaryIO, path: Path, axes: int, most: int) -> NDArray[np.uint8]:
    expected = bytes([0, 0, UINT8, axes])
    magic, head = file.read(len(expected)), file.read(4 * axes)
    if magic != expected:
        raise ValueError(
            f"{path} begins with {magic.hex(' ') or 'nothing'}, and an IDX file of uint8 with {axes} axes with "
            f"{expected.hex(' ')}. Give the original file."
        )
    shape = struct.unpack(f">{axes}I", head) if len(head) == 4 * axes else ()
    promised = math.prod(shape)
    content = file.read(promised + 1) if shape and promised <= most else b""
    if not shape or promised == 0 or len(content) != promised:
        raise ValueError(
            f"{path} promises {promised} values of shape {shape}, and its {path.stat().st_size} bytes hold "
            f"{'more' if shape and len(content) > promised else 'fewer'}: the file is damaged. Fetch it again."
        )
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_fashion_mnist(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Training and test images (N, 1, 28, 28) of a folder with the IDX files of these names, plain or ``.gz``."""
    train, test = (read_idx(_file(folder, name))[:, None] for name in IMAGE_FILES)
    return train, test


def read_fashion_mnist_16(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As `read_fashion_mnist`, padded with black to 32 x 32 and halved by means of 2 x 2 pixels, (N, 1, 16, 16)."""
    train, test = (_halved(images) for images in read_fashion_mnist(folder))
    return train, test


def _file(folder: Path, name: str) -> Path:
    found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
    if not found:
        raise ValueError(f"The folder {folder} holds neither {name} nor {name}.gz. Give the folder with the IDX files.")
    return found[0]


def _halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if images.shape[1:] != (1, 28, 28):
        raise ValueError(f"Images of Fashion-MNIST are 28 x 28; these are (N, C, H, W) = {images.shape}.")
    wide = np.pad(images, [(0, 0), (0, 0), (2, 2), (2, 2)]).astype(np.uint16)
    sums = wide[..., ::2, ::2] + wide[..., ::2, 1::2] + wide[..., 1::2, ::2] + wide[..., 1::2, 1::2]
    return ((sums + 2) // 4).astype(np.uint8)
