"""Images kept as uint8: what is drawn, how much memory it takes, copies for other processes, devices, refusals."""

from __future__ import annotations

import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.data.pixels import ImageSource, MappedImages, Pixels, map_array

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 5), dtype=np.uint8)
ROWS = np.array([4, 2, 17])


@pytest.fixture
def mapped(tmp_path: Path) -> MappedImages:
    np.save(tmp_path / "images.npy", IMAGES)
    return MappedImages(tmp_path / "images.npy", np.arange(30))


def test_what_is_drawn_are_the_images_in_network_units(mapped: MappedImages) -> None:
    exact = torch.tensor(IMAGES).float() / 127.5 - 1.0
    for stored in (torch.tensor(IMAGES), mapped):
        pool = Pixels(stored)
        assert pool[:].dtype == torch.float32 and pool[:].equal(exact) and pool[2:9:3].equal(exact[2:9:3])
        assert pool[torch.tensor([5, 0, 5])].equal(exact[[5, 0, 5]])
        assert (len(pool), pool.shape, pool.device.type) == (30, (30, 3, 4, 5), "cpu")
    assert Pixels(torch.full((1, 1, 2, 2), 16, dtype=torch.uint8), 16.0)[:].eq(1).all()


def test_a_part_holds_its_rows(mapped: MappedImages) -> None:
    part: ImageSource = mapped.part(ROWS).part(np.array([2, 0]))
    assert part.shape == (2, 3, 4, 5) and np.array_equal(part.read(np.array([0, 1])), IMAGES[[17, 4]])


def test_a_large_file_takes_no_memory(tmp_path: Path) -> None:
    shape = (150_000, 3, 32, 32)  # 0.46 GB as uint8, on the disk a hole
    np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, shape).flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = load_dataset(tmp_path / "images.npy")
    assert data.sample(64).eq(-1).all() and data.fresh(64, 0).eq(0).all() and len(data.train) == 120_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_no_pool_of_images_is_kept_as_float() -> None:
    data = load_dataset("digits")
    for pool in (data.train, data.held_out):
        assert isinstance(pool, Pixels) and isinstance(pool.stored, torch.Tensor) and pool.stored.dtype == torch.uint8


def test_a_copy_for_another_process_is_a_path(mapped: MappedImages) -> None:
    data = Dataset.of_images("mine", mapped.part(np.arange(20)), mapped.part(np.arange(20, 30)))
    content = pickle.dumps(data)
    assert len(content) < 4_000 and pickle.loads(content).train[:].equal(data.train[:])


def test_grey_images_without_an_axis_of_channels(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", IMAGES[:, 0])
    assert map_array(tmp_path / "grey.npy").shape == (30, 1, 4, 5)
    assert load_dataset(tmp_path / "grey.npy").shape == (1, 4, 5)


@pytest.mark.gpu
def test_files_stay_and_tensors_move(mapped: MappedImages) -> None:
    for stored in (torch.tensor(IMAGES), mapped):
        moved = Dataset.of_images("mine", stored, stored, flips=True).to("cuda")
        x = moved.sample(8, torch.Generator("cuda").manual_seed(0))
        assert x.device.type == moved.device.type == moved.fresh(8, 0).device.type == "cuda"
        assert moved.train[:].cpu().equal(Pixels(stored)[:])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(5, 1, 8, 8), r"kept as uint8; received torch\.float32"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), r"shape \(N, C, H, W\).*received \(5, 8, 8\)"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"received \(0, 1, 8, 8\)"),
    ],
)
def test_what_are_no_images_is_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Pixels(images)
