"""IDX files: the arrays they hold, and every one that lies about itself."""

from __future__ import annotations

import gzip
import os
import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from diffusion_env.data.idx import IMAGE_FILES, read_fashion_mnist, read_fashion_mnist_16, read_idx
from tests.support import idx_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 28, 28), dtype=np.uint8)


def written(folder: Path, content: bytes, name: str = "images") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_images_and_labels(tmp_path: Path, compressed: bool) -> None:
    for array in (IMAGES, np.arange(6, dtype=np.uint8)):
        content = gzip.compress(idx_bytes(array)) if compressed else idx_bytes(array)
        path = written(tmp_path, content, "a.gz" if compressed else "a")
        assert np.array_equal(read_idx(path, array.ndim), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (b"\x89PNG" + bytes(100), "begins with 89 50 4e 47, and an IDX file of uint8 with 3 axes with 00 00 08 03"),
        (idx_bytes(np.arange(6, dtype=np.uint8)), "begins with 00 00 08 01"),
        (b"\0\0\x0d\x03" + idx_bytes(IMAGES)[4:], "begins with 00 00 0d 03"),
        (idx_bytes(IMAGES)[:10], r"promises 1 values of shape \(\)"),
        (idx_bytes(IMAGES)[:-1], r"promises 4704 values of shape \(6, 28, 28\), and its 4719 bytes hold fewer"),
        (idx_bytes(IMAGES) + b"\0", "bytes hold more"),
        (b"\0\0\x08\x03" + struct.pack(">III", 0, 28, 28), r"promises 0 values"),
    ],
)
def test_what_the_bytes_do_not_bear_out_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    for name, packed in (("a", content), ("a.gz", gzip.compress(content))):
        with pytest.raises(ValueError, match=message if name == "a" else "Give|Fetch"):
            read_idx(written(tmp_path, packed, name))


def test_a_promise_takes_no_memory(tmp_path: Path) -> None:
    head = b"\0\0\x08\x03" + struct.pack(">III", 2**30, 2**10, 2**10)
    bomb = gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 1_000_000, 28, 28) + bytes(20_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for content in (gzip.compress(head), bomb):
        with pytest.raises(ValueError, match="hold fewer"):
            read_idx(written(tmp_path, content, "a.gz"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_damaged_and_odd_files_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(idx_bytes(IMAGES))
    for content in (whole[:-20], b"no gzip", whole[:200] + b"\xff" * 8 + whole[208:]):
        with pytest.raises(ValueError, match=r"a\.gz cannot be read .*damaged"):
            read_idx(written(tmp_path, content, "a.gz"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        read_idx(tmp_path / "pipe")


def test_fashion_mnist_is_train_and_test(tmp_path: Path) -> None:
    written(tmp_path, idx_bytes(IMAGES[:4]), IMAGE_FILES[0])
    with pytest.raises(ValueError, match="holds neither t10k-images-idx3-ubyte nor"):
        read_fashion_mnist(tmp_path)
    written(tmp_path, gzip.compress(idx_bytes(IMAGES[4:])), f"{IMAGE_FILES[1]}.gz")
    train, test = read_fashion_mnist(tmp_path)
    assert np.array_equal(train, IMAGES[:4, None]) and np.array_equal(test, IMAGES[4:, None])


def test_half_the_resolution_are_means_of_a_padded_image(tmp_path: Path) -> None:
    for name in IMAGE_FILES:
        written(tmp_path, idx_bytes(IMAGES), name)
    train, test = read_fashion_mnist_16(tmp_path)
    assert train.shape == test.shape == (6, 1, 16, 16) and train.dtype == np.uint8
    padded = np.pad(IMAGES.astype(float), [(0, 0), (2, 2), (2, 2)])
    exact = padded.reshape(6, 16, 2, 16, 2).mean(axis=(2, 4))
    assert np.abs(train[:, 0] - exact).max() <= 0.5 and not train[:, :, 0].any() and train[:, :, 1].any()
    written(tmp_path, idx_bytes(IMAGES[:, 1:]), IMAGE_FILES[0])
    with pytest.raises(ValueError, match=r"28 x 28; these are .* \(6, 1, 27, 28\)"):
        read_fashion_mnist_16(tmp_path)
