"""CelebA: the published crop, the list of parts, images decoded as they are drawn, wrong folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_env.data.celeba import PACKED, PARTITION, pack_celeba, read_celeba
from diffusion_env.data.named import load_dataset
from diffusion_env.data.pixels import MappedImages

COUNT = 12


def face(index: int) -> np.ndarray:
    """A smooth picture, so that JPEG keeps it, with a frame outside of the published crop."""
    image = np.full((218, 178, 3), 255, np.uint8)
    rows, columns = np.mgrid[:128, :128]
    image[57:185, 25:153] = np.stack([rows, columns, np.full_like(rows, 10 * index)], -1)
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = tmp_path / "img_align_celeba"
    images.mkdir()
    for index in range(COUNT):
        Image.fromarray(face(index)).save(images / f"{index:06}.jpg", quality=98, subsampling=0)
    return images


def write_list(folder: Path, *words: str) -> None:
    lines = [f"{index:06}.jpg {0 if index < 8 else 1 if index < 10 else 2}" for index in range(COUNT)]
    (folder / PARTITION).write_text("\n".join([*lines, *words]) + "\n")


def test_the_crop_is_the_published_one_halved_by_means(folder: Path) -> None:
    train, test = read_celeba(folder)
    assert train.shape == (COUNT, 3, 64, 64) and test is None
    found = train.read(np.array([3]))[0].astype(float)
    exact = face(3)[57:185, 25:153].reshape(64, 2, 64, 2, 3).mean(axis=(1, 3)).transpose(2, 0, 1)
    assert np.abs(found - exact)[:, 2:-2, 2:-2].max() < 4  # JPEG; the frame would be off by 100


@pytest.mark.parametrize("above", ["", "..", "../Eval"])
def test_the_list_gives_train_and_test(folder: Path, above: str) -> None:
    place = folder / above
    place.mkdir(exist_ok=True)
    write_list(place)
    data = load_dataset(f"celeba:{folder}")
    assert len(data.train) == 8 and len(data.held_out) == 2 and data.flips and data.name == "celeba"
    blue = data.to_data(data.held_out[:])[:, 2].mean(dim=(1, 2))
    assert blue.sub(torch.tensor([100.0, 110.0])).abs().max() < 3
    assert data.sample(5).shape == (5, 3, 64, 64)


def test_without_a_list_a_fifth_is_held_out(folder: Path) -> None:
    data = load_dataset(f"celeba:{folder.parent}")
    assert len(data.train) == 9 and len(data.held_out) == 3


@pytest.mark.parametrize("line", ["999999.jpg 0", "../000001.jpg 0", "000001.jpg", "000001.jpg 0 1"])
def test_a_list_of_other_images_is_refused(folder: Path, line: str) -> None:
    write_list(folder, line)
    with pytest.raises(ValueError, match=rf"{PARTITION} has the line '{line}'"):
        read_celeba(folder)


def test_wrong_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (folder / PARTITION).write_text("000000.jpg 0\n")
    with pytest.raises(ValueError, match="names no training image"):
        read_celeba(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"holds no \.jpg file"):
        read_celeba(empty)
    with pytest.raises(ValueError, match="is not a folder"):
        read_celeba(tmp_path / "none")


def test_wrong_and_damaged_images_are_named_when_they_are_drawn(folder: Path) -> None:
    train, _ = read_celeba(folder)
    Image.fromarray(face(0)[:64]).save(folder / "000000.jpg")
    (folder / "000001.jpg").write_bytes((folder / "000002.jpg").read_bytes()[:800])
    for row, message in enumerate([r"000000\.jpg has 178 x 64 pixels", r"000001\.jpg cannot be read"]):
        with pytest.raises(ValueError, match=message):
            train.read(np.array([row]))


def test_packed_images_are_the_same_and_are_mapped(folder: Path, tmp_path: Path) -> None:
    write_list(folder)
    done: list[int] = []
    pack_celeba(folder, tmp_path / "packed", done.append)
    for found, exact in zip(read_celeba(tmp_path / "packed"), read_celeba(folder), strict=True):
        assert isinstance(found, MappedImages) and exact is not None
        rows = np.arange(exact.shape[0])
        assert np.array_equal(found.read(rows), exact.read(rows))
    assert sum(done) == 10 and sorted(path.name for path in (tmp_path / "packed").iterdir()) == sorted(PACKED)


def test_without_a_list_all_are_packed_as_one(folder: Path, tmp_path: Path) -> None:
    write_list(folder)
    pack_celeba(folder, tmp_path / "packed")
    (folder / PARTITION).unlink()
    pack_celeba(folder, tmp_path / "packed")
    train, test = read_celeba(tmp_path / "packed")
    assert train.shape == (COUNT, 3, 64, 64) and test is None


def test_packing_that_fails_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (folder / "000009.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"000009\.jpg cannot be read"):
        pack_celeba(folder, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_packed_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / PACKED[0], np.zeros((20, 3, 64, 64), np.float32))
    with pytest.raises(ValueError, match=r"train\.npy holds float32 of shape \(20, 3, 64, 64\), and packed"):
        read_celeba(tmp_path)
    np.save(tmp_path / PACKED[0], np.zeros((20, 3, 32, 32), np.uint8))
    with pytest.raises(ValueError, match=r"uint8 of shape \(20, 3, 32, 32\), and packed CelebA"):
        load_dataset(f"celeba:{tmp_path}")
