"""Read a user's folder of images into one uint8 array."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
MAX_PIXELS = 2**24
"""The most pixels of one image, 4,096 x 4,096: beyond it lie decompression bombs, and no network here reaches it."""
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
TOO_DEEP = ("I", "F")
"""32-bit integers and floats, whose white is unknown."""


def read_folder(path: Path) -> Pixels:
    """All images directly inside a folder, in the order of their names, as (N, C, H, W).

    C is 1 if every image is grey and 3 otherwise. Grey of 16 bits is scaled to 8; transparent pixels are laid on white.

    Raises ValueError that names the file: not a regular file, damaged, of another size, of several frames, of 32 bits
    or floats, or of more than `MAX_PIXELS` pixels.
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


def _read_image(file: Path) -> Pixels:
    """One image, (1, H, W) or (3, H, W)."""
    if not file.is_file():  # a named pipe would be waited for, for ever
        raise ValueError(f"{file} is not a regular file, so it is not read. Take it out of the folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large and odd files; what is refused is refused below
            with Image.open(file) as image:
                _check(image, file)
                image.load()
                return _pixels(image)
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


def _pixels(image: Image.Image) -> Pixels:
    if image.mode in SIXTEEN_BITS:
        deep = np.asarray(image).astype(np.uint32)
        return ((deep * 255 + 32_767) // 65_535).astype(np.uint8)[None]
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        grey = image.mode in ("LA", "La", "L", "1")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("L" if grey else "RGB")
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))[None]
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def _check_sizes(files: list[Path], images: list[Pixels]) -> None:
    first = images[0].shape[1:]
    for file, image in zip(files, images, strict=True):
        if image.shape[1:] != first:
            raise ValueError(
                f"The images of a folder must all have one size: {files[0].name} is {first[0]} x {first[1]} "
                f"but {file.name} is {image.shape[1]} x {image.shape[2]} (height x width). Resize or crop "
                "them first."
            )
