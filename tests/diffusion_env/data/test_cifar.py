"""CIFAR-10 from each of its archives, unpacked too, and from folders of classes; each incomplete one is refused."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_env.data.cifar import TEST, TRAIN, read_cifar10
from diffusion_env.data.named import load_dataset

COUNT = 4
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT * 6, 3, 32, 32), dtype=np.uint8)
Contents = dict[str, bytes]


def python_batches() -> Contents:
    batches = {}
    for index, name in enumerate((*TRAIN, TEST)):
        data = IMAGES[COUNT * index : COUNT * (index + 1)].reshape(COUNT, -1)
        batches[name] = pickle.dumps({b"batch_label": b"x", b"labels": [1] * COUNT, b"data": data}, 2)
    return {**batches, "batches.meta": b"not read", "readme.html": b"<p>"}


def binary_batches() -> Contents:
    flat = np.concatenate([np.full((len(IMAGES), 1), 9, np.uint8), IMAGES.reshape(len(IMAGES), -1)], axis=1)
    parts = flat.reshape(6, -1)
    return {f"{name}.bin": part.tobytes() for name, part in zip((*TRAIN, TEST), parts, strict=True)}


def packed(path: Path, contents: Contents, folder: str = "cifar-10-batches-py") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def unpacked(folder: Path, contents: Contents) -> Path:
    folder.mkdir()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("made", [python_batches, binary_batches])
def test_archives_and_their_folders(tmp_path: Path, made: Callable[[], Contents]) -> None:
    above = tmp_path / "above"
    above.mkdir()
    places = [packed(tmp_path / "a.tar.gz", made()), unpacked(above / "cifar-10-batches-py", made()), above]
    for place in places:
        train, test = read_cifar10(place)
        assert np.array_equal(train, IMAGES[: 5 * COUNT]) and np.array_equal(test, IMAGES[5 * COUNT :])


def class_folder(folder: Path) -> Path:
    for index, image in enumerate(IMAGES):
        part = folder / ("train" if index < 20 else "test") / f"class{index % 2}"
        part.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(part / f"{index:02}.png")
    return folder


def test_a_folder_of_classes(tmp_path: Path) -> None:
    train, test = read_cifar10(class_folder(tmp_path))
    assert np.array_equal(train, np.concatenate([IMAGES[0:20:2], IMAGES[1:20:2]]))
    assert np.array_equal(test, np.concatenate([IMAGES[20::2], IMAGES[21::2]]))
    for file in (tmp_path / "test").glob("*/*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"test holds no file CLASS/\*\.png"):
        read_cifar10(tmp_path)


@pytest.mark.parametrize("made", [python_batches, binary_batches])
def test_missing_batches_are_named(tmp_path: Path, made: Callable[[], Contents]) -> None:
    contents = {name: content for name, content in made().items() if "_3" not in name and "test" not in name}
    for place in (packed(tmp_path / "a.tar.gz", contents), unpacked(tmp_path / "folder", contents)):
        with pytest.raises(ValueError, match=r"lacks the batches data_batch_3(\.bin)?, test_batch(\.bin)? of CIFAR-10"):
            read_cifar10(place)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_batch_2": pickle.dumps({"data": Path})}, r"data_batch_2 of .* wants to import 'pathlib"),
        ({"data_batch_2": pickle.dumps({"labels": [1]})}, "it holds a NoneType"),
        ({"data_batch_2": pickle.dumps({"data": IMAGES[:, 0].reshape(24, -1)}, 2)}, r"it holds shape \(24, 1024\)"),
        ({"data_batch_2": b"\x80\x02}"}, "data_batch_2 of .* is damaged"),
    ],
)
def test_wrong_batches_are_refused(tmp_path: Path, change: Contents, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_cifar10(packed(tmp_path / "a.tar.gz", {**python_batches(), **change}))


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "0 bytes"), (bytes(3072), "3072 bytes"), (b"\x0a" * 3073, "10;")]
)
def test_wrong_binary_batches_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=rf"data_batch_2\.bin of .*{message}"):
        read_cifar10(packed(tmp_path / "a.tar.gz", {**binary_batches(), "data_batch_2.bin": content}))


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    whole = packed(tmp_path / "a.tar.gz", python_batches()).read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2]):
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be read as an archive .*cifar-10-python\.tar\.gz"):
            read_cifar10(tmp_path / "a.tar.gz")
    with pytest.raises(ValueError, match="neither a regular file nor a folder"):
        read_cifar10(tmp_path / "none")


def test_archives_made_to_fill_the_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = packed(tmp_path / "many.tar.gz", {f"file{index}": b"" for index in range(101)})
    with pytest.raises(ValueError, match="more than 100 members"):
        read_cifar10(many)
    monkeypatch.setattr("diffusion_env.data.cifar.MAX_ARCHIVE_BYTES", 50_000)
    with pytest.raises(ValueError, match=r"a\.tar\.gz expands to more than 50000 bytes"):
        read_cifar10(packed(tmp_path / "a.tar.gz", python_batches()))
    monkeypatch.setattr("diffusion_env.data.cifar.MAX_ARCHIVE_BYTES", 500_000)
    monkeypatch.setattr("diffusion_env.data.cifar.MAX_BATCH_BYTES", 1_000)
    for place in (packed(tmp_path / "a.tar.gz", python_batches()), unpacked(tmp_path / "folder", python_batches())):
        with pytest.raises(ValueError, match="1000 bytes"):
            read_cifar10(place)


def test_links_in_an_archive_are_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        member = tarfile.TarInfo(TEST)
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(ValueError, match=r"lacks the batches .*test_batch"):
        read_cifar10(tmp_path / "a.tar")


def test_by_name_and_path_it_is_flipped(tmp_path: Path) -> None:
    data = load_dataset(f"cifar10:{packed(tmp_path / 'a.tar.gz', binary_batches())}")
    assert (data.name, data.shape, data.flips, data.named) == ("cifar10", (3, 32, 32), True, True)
    assert len(data.train) == 20 and len(data.held_out) == 4


def test_images_of_another_size_are_refused_by_name(tmp_path: Path) -> None:
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
        Image.fromarray(IMAGES[0, 0, :16]).save(tmp_path / part / "cat" / "a.png")
    with pytest.raises(ValueError, match=r"cifar10 has images of shape \(3, 32, 32\) .* have \(1, 16, 32\)"):
        load_dataset(f"cifar10:{tmp_path}")
