"""CIFAR-10 (Krizhevsky 2009): the python and the binary archive, packed or not, or a folder train/CLASS/*.png.

Both archives hold the training images in five batches and the test images in one; each image is 3,072 bytes, the red
plane first, rows from the top.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffusion_env.data.batches import read_batch

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = "test_batch"
BINARY = ".bin"
CLASSES = 10
MAX_BATCH_BYTES = 2**26
"""A batch of the original archives has 31 MB."""
MAX_MEMBERS = 100
MAX_ARCHIVE_BYTES = 2**29
"""The original archives have 186 MB when they are expanded, those pickled again by Python 3 up to 280 MB."""
GZIP_MAGIC = b"\x1f\x8b"
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
WAYS = (
    "Give the original cifar-10-python.tar.gz or cifar-10-binary.tar.gz, the folder that is packed in it, or a folder "
    "with train/CLASS/*.png and test/CLASS/*.png."
)

Images = NDArray[np.uint8]


def read_cifar10(place: Path) -> tuple[Images, Images]:
    """Training and test images (N, 3, 32, 32) of an archive, of its unpacked folder, or of a folder of classes.

    Raises ValueError that names the file: damaged, a batch that is missing, images of another size or number of
    channels, or a pickle with anything but plain values and arrays of numpy. Nothing is unpickled, see `read_batch`.
    """
    if place.is_dir():
        if (place / "train").is_dir():
            return _class_images(place / "train"), _class_images(place / "test")
        folder = next((place / name for name in FOLDERS if (place / name).is_dir()), place)
        contents: Iterable[tuple[str, bytes]] = (
            (path.name, _content(path)) for path in sorted(folder.iterdir()) if _is_batch(path.name)
        )
    elif place.is_file():
        contents = _members(place)
    else:
        raise ValueError(f"{place} is neither a regular file nor a folder. {WAYS}")
    return _joined(contents, place)


def _is_batch(name: str) -> bool:
    return name.removesuffix(BINARY) in (*TRAIN, TEST)


def _content(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_BATCH_BYTES:
        raise ValueError(f"{path} is not a file of at most {MAX_BATCH_BYTES} bytes, so it is no batch of CIFAR-10.")
    return path.read_bytes()


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the batches in an archive; nothing is written to the disk."""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=_Expanded(file, path), mode="r|") as archive:
            for count, member in enumerate(archive):
                if count >= MAX_MEMBERS or member.size > MAX_BATCH_BYTES:
                    raise ValueError(
                        f"{path} has more than {MAX_MEMBERS} members, or {member.name!r} has more than "
                        f"{MAX_BATCH_BYTES} bytes, so it is not CIFAR-10. {WAYS}"
                    )
                name = Path(member.name).name
                batch = archive.extractfile(member) if member.isreg() and _is_batch(name) else None
                if batch is not None:
                    yield name, batch.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an archive ({error}). {WAYS}") from error


class _Expanded(io.RawIOBase):
    """A .tar or .tar.gz file as the bytes of the .tar, at most `MAX_ARCHIVE_BYTES` of them."""

    def __init__(self, file: io.BufferedReader, path: Path) -> None:
        packed = file.peek(len(GZIP_MAGIC)).startswith(GZIP_MAGIC)
        self._file = gzip.GzipFile(fileobj=file) if packed else file
        self._path, self._left = path, MAX_ARCHIVE_BYTES

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise ValueError(
                f"{self._path} expands to more than {MAX_ARCHIVE_BYTES} bytes, so it is not CIFAR-10. {WAYS}"
            )
        return content


def _joined(contents: Iterable[tuple[str, bytes]], place: Path) -> tuple[Images, Images]:
    images: dict[str, Images] = {}
    for name, content in contents:
        read = _binary_batch if name.endswith(BINARY) else _python_batch
        images[name] = read(content, f"{name} of {place}")
    suffix = BINARY if any(name.endswith(BINARY) for name in images) else ""
    missing = [name + suffix for name in (*TRAIN, TEST) if name + suffix not in images]
    if missing:
        raise ValueError(f"{place} lacks the batches {', '.join(missing)} of CIFAR-10. {WAYS}")
    return np.concatenate([images[name + suffix] for name in TRAIN]), images[TEST + suffix]


def _binary_batch(content: bytes, source: str) -> Images:
    """Records of one byte, the class, and the bytes of the image."""
    if not content or len(content) % (1 + PIXELS):
        raise ValueError(f"{source} has {len(content)} bytes, not a multiple of {1 + PIXELS}: it is damaged. {WAYS}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    if records[:, 0].max() >= CLASSES:
        raise ValueError(f"{source} has a class {records[:, 0].max()}; CIFAR-10 has 0 ... {CLASSES - 1}. {WAYS}")
    return records[:, 1:].reshape(-1, *SHAPE)


def _python_batch(content: bytes, source: str) -> Images:
    batch = read_batch(content, source)
    data = batch.get("data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != PIXELS or not len(data):
        found = f"shape {data.shape}" if isinstance(data, np.ndarray) else f"a {type(data).__name__}"
        raise ValueError(f"{source} must hold 'data' of shape (N, {PIXELS}) uint8; it holds {found}. {WAYS}")
    return data.reshape(-1, *SHAPE)


def _class_images(folder: Path) -> Images:
    from diffusion_env.data.pictures import read_images

    files = sorted(folder.glob("*/*.png"))
    if not files:
        raise ValueError(f"{folder} holds no file CLASS/*.png. {WAYS}")
    return read_images(files)
