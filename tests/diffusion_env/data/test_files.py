"""Data of one's own: .npz files, folders of images, and every unusable one."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_env.data.named import load_dataset
from tests.support import rows


def save(folder, **arrays):
    path = folder / "points.npz"
    np.savez(path, **arrays)
    return path


def some_points(n: int = 200, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(2.0, 3.0, (n, *(shape or (2,))))


def some_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8), (1,), (3, 5)])
def test_npz_of_floats_of_any_rank(tmp_path, shape):
    points = some_points(200, *shape).astype(np.float32)
    data = load_dataset(save(tmp_path, x=points), seed=4)
    assert data.shape == shape and data.name == "points"
    assert len(data.train) == 160 and len(data.held_out) == 40
    assert data.train[:].mean(dim=0).abs().max() < 1e-5
    assert data.train[:].var(dim=0, correction=0).mean() == pytest.approx(1.0, abs=1e-4)
    together = data.to_data(torch.cat([data.train[:], data.held_out[:]]))
    assert together.flatten(1).sum(dim=1).sort().values.numpy() == pytest.approx(
        np.sort(points.reshape(200, -1).sum(axis=1)), abs=1e-3
    )
    assert not rows(data.train[:]) & rows(data.held_out[:])


def test_seed_fixes_the_split_of_a_file(tmp_path):
    path = save(tmp_path, x=some_points())
    a, b, other = (load_dataset(path, seed=seed) for seed in (0, 0, 1))
    assert a.train[:].equal(b.train[:]) and not a.train[:].equal(other.train[:])


def test_fresh_points_of_a_file_are_held_out_and_not_repeated(tmp_path):
    data = load_dataset(save(tmp_path, x=some_points()))
    fresh = data.fresh(40, seed=0)
    assert len(rows(fresh)) == 40 and not fresh.equal(data.fresh(40, seed=1))
    assert data.from_data(fresh).sort(dim=0).values.allclose(data.held_out[:].sort(dim=0).values, atol=1e-5)
    with pytest.raises(ValueError, match=r"41 fresh points .* holds 40 held-out"):
        data.fresh(41, seed=0)


@pytest.mark.parametrize(
    ("stored", "shape"), [((50, 1, 8, 8), (1, 8, 8)), ((50, 8, 8), (1, 8, 8)), ((50, 3, 4, 6), (3, 4, 6))]
)
def test_npz_of_uint8_images(tmp_path, stored, shape):
    images = some_images(*stored)
    images.flat[:2] = 0, 255
    data = load_dataset(save(tmp_path, images=images))
    together = torch.cat([data.train[:], data.held_out[:]])
    assert data.shape == shape and together.min() == -1.0 and together.max() == 1.0
    assert data.to_data(together).sum() == pytest.approx(float(images.sum()), rel=1e-6)


@pytest.mark.parametrize("key", ["x", "data", "images", "arr_0"])
def test_npz_with_several_arrays_needs_a_known_name(tmp_path, key):
    data = load_dataset(save(tmp_path, labels=np.zeros(200), **{key: some_points(200, 3)}))
    assert data.shape == (3,)


def test_digits():
    data = load_dataset("digits")
    assert data.shape == (1, 8, 8) and len(data.train) == 1437 and len(data.held_out) == 360
    assert data.train[:].min() == -1.0 and data.train[:].max() == 1.0
    assert data.to_data(data.train[:]).max() == 16.0


def write_images(folder, images, suffix="png"):
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03}.{suffix}")


def test_folder_of_grey_images(tmp_path):
    images = some_images(20, 4, 6)
    write_images(tmp_path, images)
    (tmp_path / "notes.txt").write_text("not an image")
    data = load_dataset(tmp_path)
    assert data.shape == (1, 4, 6)
    assert rows(data.to_data(torch.cat([data.train[:], data.held_out[:]]))) == rows(torch.tensor(images).float())


def test_folder_of_grey_and_colour_images_is_colour(tmp_path):
    write_images(tmp_path, [*some_images(10, 4, 4), *some_images(10, 4, 4, 3)])
    data = load_dataset(str(tmp_path))
    together = torch.cat([data.train[:], data.held_out[:]])
    assert data.shape == (3, 4, 4)
    assert (together == together[:, :1]).flatten(1).all(dim=1).sum() == 10


def test_folder_faults(tmp_path):
    with pytest.raises(ValueError, match=r"holds no image.*\.png"):
        load_dataset(tmp_path)
    write_images(tmp_path, [*some_images(10, 4, 4), *some_images(1, 5, 4)])
    with pytest.raises(ValueError, match=r"000\.png is 4 x 4 but 010\.png is 5 x 4"):
        load_dataset(tmp_path)
    (tmp_path / "010.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"010\.png cannot be read as an image"):
        load_dataset(tmp_path)


with_nan = some_points()
with_nan[3, 1] = np.nan
with_nan[4, 0] = np.inf


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (with_nan, "holds 2 values that are NaN or infinite among 400"),
        (np.zeros(50), r"shape \(50,\).*at least one more"),
        (np.float64(1.0), r"shape \(\)"),
        (some_points(9), "At least 10"),
        (np.zeros((50, 0)), "At least 10 non-empty"),
        (np.zeros((50, 2), dtype=np.int64), "dtype int64.*astype"),
        (np.zeros((50, 2), dtype=np.complex64), "dtype complex64"),
        (np.zeros((50, 2), dtype=bool), "dtype bool"),
        (np.full((50, 2), None), "never pickled objects"),
        (np.ones((50, 2)), "points of dataset 'points' are equal"),
        (some_images(50, 2), "uint8 means images"),
        (some_images(50, 8, 8, 3), r"transpose\(0, 3, 1, 2\)"),
        (some_images(10, 1, 2, 2, 2), "uint8 means images"),
    ],
)
def test_unusable_arrays_are_refused_in_one_paragraph(tmp_path, array, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_dataset(save(tmp_path, x=array))
    assert "points" in str(caught.value) and "\n" not in str(caught.value)


def test_npz_with_unclear_arrays_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds 2 arrays \(a, b\).*x, data, images, arr_0"):
        load_dataset(save(tmp_path, a=some_points(), b=some_points()))
    with pytest.raises(ValueError, match="holds 0 arrays"):
        load_dataset(save(tmp_path))


def test_files_that_are_no_whole_npz_are_refused(tmp_path):
    path = save(tmp_path, x=some_points(2_000))
    whole = path.read_bytes()
    for content in (b"", b"some text", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot be opened as a \.npz.*numpy\.savez"):
            load_dataset(path)
    path.write_bytes(whole[:9_000] + b"\xff" * 8 + whole[9_008:])
    with pytest.raises(ValueError, match=r"array 'x' .* cannot be read .*damaged"):
        load_dataset(path)
    with path.open("wb") as file:
        np.save(file, some_points())
    with pytest.raises(ValueError, match=r"single \.npy array"):
        load_dataset(path)


def test_npy_of_points_and_unusable_ones(tmp_path):
    path = tmp_path / "mine.npy"
    np.save(path, some_points())
    assert load_dataset(path).shape == (2,)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-8], whole[:40]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"mine\.npy cannot be mapped as a \.npy array .*numpy\.save"):
            load_dataset(path)
    np.save(path, np.full((50, 2), None), allow_pickle=True)
    with pytest.raises(ValueError, match=r"mine\.npy cannot be mapped"):
        load_dataset(path)
    np.save(path, some_images(50, 8, 8, 3))
    with pytest.raises(ValueError, match=r"transpose\(0, 3, 1, 2\)"):
        load_dataset(path)
