"""Read image files as uint8: a folder as a whole, or each file when it is drawn."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bytes = NDArray[np.uint8]
Found = TypeVar("Found")

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
MAX_PIXELS = 2**24
"""The most pixels of one image, 4,096 x 4,096: beyond it lie decompression bombs, and no network here reaches it."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
TOO_DEEP = ("I", "F")
"""32-bit integers and floats, whose white is unknown."""


MAX_IN_MEMORY = 2**30
"""A folder whose images have more bytes than this as uint8 stays on the disk."""


@dataclass(frozen=True)
class Crop:
    """A square that is cut out of images of one size and resized by Pillow's bilinear filter, which is antialiased."""

    size: tuple[int, int]  # (width, height) that the images must have, pixels
    box: tuple[int, int, int, int]  # (left, top, right, bottom), pixels
    side: int  # of the result, pixels


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Files of images of one size that are decoded when they are asked for."""

    files: tuple[Path, ...]
    event: tuple[int, int, int]  # (C, H, W)
    crop: Crop | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return (len(self.files), *self.event)

    def read(self, rows: NDArray[np.int64]) -> Bytes:
        """The images (n, C, H, W) at ``rows`` (n,); ValueError names a file that cannot be used."""
        return np.stack([self._read(self.files[row]) for row in rows])

    def part(self, rows: NDArray[np.int64]) -> ImageFiles:
        """A source of the images at ``rows`` (n,) alone, in this order."""
        return ImageFiles(tuple(self.files[row] for row in rows), self.event, self.crop)

    def _read(self, file: Path) -> Bytes:
        image = _coloured(read_image(file, self.crop), self.event[0])
        if image.shape != self.event:
            raise ValueError(
                f"{file} has the shape {image.shape} and not {self.event} (channels, height, width), as when the "
                "folder was opened. Take it out, and open the folder again."
            )
        return image


def read_folder(path: Path) -> Bytes | ImageFiles:
    """All images directly inside a folder, in the order of their names, as (N, C, H, W).

    C is 1 if every image is grey and 3 otherwise. Grey of 16 bits is scaled to 8; transparent pixels are laid on white.
    Images of more than `MAX_IN_MEMORY` bytes in all are only looked at, and decoded when they are drawn.

    Raises ValueError that names the file: not a regular file, damaged, of another size, of several frames, of 32 bits
    or floats, or of more than `MAX_PIXELS` pixels.
    """
    files = image_files(path)
    if len(files) * math.prod(_opened(files[0], _header)[1:]) <= MAX_IN_MEMORY / 3:
        return read_images(files)
    headers = [_opened(file, _header) for file in files]
    _check_sizes(files, headers)
    channels = max(header[0] for header in headers)
    return ImageFiles(tuple(files), (channels, *headers[0][1:]))


def image_files(path: Path) -> list[Path]:
    """The images directly inside a folder, in the order of their names; ValueError where there is none."""
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise ValueError(
            f"The folder {path} holds no image. Images directly inside it are read, with one of the suffixes "
            f"{', '.join(sorted(IMAGE_SUFFIXES))}."
        )
    return files


def read_images(files: Sequence[Path]) -> Bytes:
    """The images in ``files`` as (N, C, H, W), as `read_folder`."""
    images = [read_image(file) for file in files]
    _check_sizes(files, [image.shape for image in images])
    channels = max(image.shape[0] for image in images)
    return np.stack([_coloured(image, channels) for image in images])


def _coloured(image: Bytes, channels: int) -> Bytes:
    """A grey image (1, H, W) with three equal channels where that is asked for."""
    return np.broadcast_to(image, (3, *image.shape[1:])) if channels == 3 and len(image) == 1 else image


def read_image(file: Path, crop: Crop | None = None) -> Bytes:
    """One image, (1, H, W) or (3, H, W); ValueError names the file where it is damaged or not of the crop's size."""

    def decoded(image: Image.Image) -> Bytes:
        if crop is not None:
            if image.size != crop.size:
                raise _Refused(
                    f"{file} has {image.width} x {image.height} pixels, and these images have {crop.size[0]} x "
                    f"{crop.size[1]} (width x height). Give the original files."
                )
            image = image.convert("RGB").crop(crop.box).resize((crop.side, crop.side), Image.Resampling.BILINEAR)
        image.load()
        return _pixels(image)

    return _opened(file, decoded)


def _header(image: Image.Image) -> tuple[int, int, int]:
    """(C, H, W) without decoding."""
    return (1 if _is_grey(image) else 3, image.height, image.width)


def _opened(file: Path, look: Callable[[Image.Image], Found]) -> Found:
    """What ``look`` says of an image that may be decoded."""
    if not file.is_file():  # a named pipe would be waited for, for ever
        raise ValueError(f"{file} is not a regular file, so it is not read. Take it out of the folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and odd files; what is refused is refused below
            with Image.open(file) as image:
                _check(image, file)
                return look(image)
    except _Refused:
        raise
    # Pillow's decoders raise many kinds of errors on damaged files, SyntaxError among them.
    except Exception as error:
        raise ValueError(f"{file} cannot be read as an image ({error}). Repair it or take it out.") from error


class _Refused(ValueError):
    """A complaint that is worded already."""


def _check(image: Image.Image, file: Path) -> None:
    """Refuse, before the pixels are decoded, what cannot become one 8-bit image."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _Refused(f"{file} has {width} x {height} pixels; at most {MAX_PIXELS} are read. Resize or crop it first.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise _Refused(f"{file} holds {frames} frames, and an image is one. Save each as a file of its own.")
    if image.mode in TOO_DEEP:
        raise _Refused(
            f"{file} has pixels of mode {image.mode!r} (32-bit integers or floats), whose white is unknown. Save it "
            "with 8 or 16 bits a channel."
        )


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA", "La", *SIXTEEN_BITS)


def _pixels(image: Image.Image) -> Bytes:
    if image.mode in SIXTEEN_BITS:
        deep = np.asarray(image).astype(np.uint32)
        return ((deep * 255 + 32_767) // 65_535).astype(np.uint8)[None]
    grey = _is_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    if grey:
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _check_sizes(files: Sequence[Path], shapes: Sequence[tuple[int, ...]]) -> None:
    first = shapes[0][1:]
    for file, (_, *found) in zip(files, shapes, strict=True):
        if tuple(found) != first:
            raise ValueError(
                f"The images of a folder must all have one size: {files[0].name} is {first[0]} x {first[1]} "
                f"but {file.name} is {found[0]} x {found[1]} (height x width). Resize or crop "
                "them first."
            )
