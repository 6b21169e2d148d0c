"""Named image sets: where they are looked for, what is said where they are not, their own test images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_env.data.idx import IMAGE_FILES
from diffusion_env.data.image_sets import FASHION_MNIST, IMAGE_SETS
from diffusion_env.data.named import load_dataset
from diffusion_env.data.places import CACHE_VARIABLE
from tests.support import idx_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 28, 28), dtype=np.uint8)
LOOKED_FOR = [name for name, images in IMAGE_SETS.items() if not images.installed]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_fashion(folder: Path, images: np.ndarray = IMAGES) -> Path:
    folder.mkdir(parents=True)
    for name, part in zip(IMAGE_FILES, (images[:6], images[6:]), strict=True):
        (folder / name).write_bytes(idx_bytes(part))
    return folder


def test_digits_come_with_a_library_and_take_no_path() -> None:
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.held_out)) == IMAGE_SETS["digits"].sizes and digits.named
    with pytest.raises(ValueError, match="digits comes with a library and takes no path; received here"):
        load_dataset("digits:here")


@pytest.mark.parametrize(("name", "side"), [("fashion_mnist", 28), ("fashion_mnist_16", 16)])
def test_fashion_mnist_in_the_cache_folder_and_elsewhere(cache: Path, tmp_path: Path, name: str, side: int) -> None:
    found = load_dataset(f"{name}:{write_fashion(tmp_path / 'own', 255 - IMAGES)}")
    write_fashion(cache / FASHION_MNIST)
    data = load_dataset(name)
    assert (data.name, data.shape, data.named, data.flips) == (name, (1, side, side), True, False)
    assert len(data.train) == 6 and len(data.held_out) == 3  # its own test images
    assert IMAGE_SETS[name].shape == data.shape and not data.train[:].equal(found.train[:])
    if side == 28:
        assert data.to_data(data.held_out[:]).allclose(torch.tensor(IMAGES[6:, None]).float(), atol=1e-4)


def test_the_seed_does_not_move_the_test_images(cache: Path) -> None:
    write_fashion(cache / FASHION_MNIST)
    a, b = (load_dataset("fashion_mnist", seed=seed) for seed in (0, 1))
    assert a.train[:].equal(b.train[:]) and a.held_out[:].equal(b.held_out[:])


@pytest.mark.parametrize("name", LOOKED_FOR)
def test_what_is_not_here_is_one_helpful_paragraph(name: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffusion_env.data.image_sets.ImageSet.place", lambda images: None)
    with pytest.raises(ValueError, match=rf"images of {name} are not here: looked for {cache}.*{name}:PATH") as caught:
        load_dataset(name)
    assert "\n" not in str(caught.value) and "https://" in str(caught.value) and CACHE_VARIABLE in str(caught.value)


def test_images_of_another_resolution_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"fashion_mnist has images of shape \(1, 28, 28\) .* have \(1, 28, 27\)"):
        load_dataset(f"fashion_mnist:{write_fashion(tmp_path / 'own', IMAGES[..., 1:])}")
    with pytest.raises(ValueError, match="holds neither train-images-idx3-ubyte nor"):
        load_dataset(f"fashion_mnist:{tmp_path}")
