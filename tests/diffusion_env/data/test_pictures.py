"""Folders of images of every kind: read as they look, or refused by a sentence that names the file."""

import os
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_env.data import pictures
from diffusion_env.data.named import load_dataset
from diffusion_env.data.pictures import Crop, ImageFiles, image_files, read_folder, read_image, read_images
from tests.support import rows

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def read_one(folder, image: Image.Image, name: str = "a.png", **options) -> np.ndarray:
    image.save(folder / name, **options)
    return read_images(image_files(folder))[0]


def test_16_bits_are_scaled_to_8(tmp_path):
    deep = (GREY.astype(np.uint16) * 257)[:, :]
    assert np.array_equal(read_one(tmp_path, Image.fromarray(deep)), GREY[None])
    nearly = np.full((8, 8), 65_535 - 100, np.uint16)
    assert (read_one(tmp_path, Image.fromarray(nearly)) == 255).all()


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bits_are_refused(tmp_path, mode):
    with pytest.raises(ValueError, match=rf"a\.tiff has pixels of mode '{mode}'"):
        read_one(tmp_path, Image.fromarray(GREY).convert(mode), "a.tiff")


def test_transparent_pixels_are_laid_on_white(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = 10, 200, 30, 255
    pixels[4:] = 99, 98, 97, 0  # a hidden colour
    found = read_one(tmp_path, Image.fromarray(pixels))
    assert (found[:, 4:] == 255).all() and (found[:, :4].transpose(1, 2, 0) == (10, 200, 30)).all()


def test_grey_with_alpha_stays_grey(tmp_path):
    found = read_one(tmp_path, Image.fromarray(np.stack([GREY, np.full_like(GREY, 255)], -1)))
    assert np.array_equal(found, GREY[None])


def test_a_palette_shows_its_colours(tmp_path):
    image = Image.frombytes("P", (8, 8), (GREY > 100).astype(np.uint8).tobytes())
    image.putpalette([255, 0, 0, 0, 0, 255])
    found = read_one(tmp_path, image)
    assert np.array_equal(found[0] == 255, GREY <= 100) and np.array_equal(found[2] == 255, GREY > 100)
    see_through = read_one(tmp_path, image, transparency=0)
    assert (see_through[:, GREY <= 100] == 255).all()


def test_frames_of_an_animation_are_refused(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    with pytest.raises(ValueError, match=r"a\.gif holds 2 frames"):
        read_one(tmp_path, frames[0], "a.gif", save_all=True, append_images=frames[1:])


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    side = 50_000
    head = b"\x89PNG\r\n\x1a\n"

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    size = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    body = zlib.compress(bytes(1_000_000))
    (tmp_path / "bomb.png").write_bytes(head + chunk(b"IHDR", size) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    with pytest.raises(ValueError, match=r"bomb\.png (has 50000 x 50000 pixels|cannot be read)"):
        read_folder(tmp_path)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 63)
    (tmp_path / "bomb.png").unlink()
    with pytest.raises(ValueError, match=r"a\.png has 8 x 8 pixels; at most 63 are read"):
        read_one(tmp_path, Image.fromarray(GREY))


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tiff", "webp"])
def test_every_damaged_image_is_an_image_or_a_sentence(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path)
    whole, refused = path.read_bytes(), 0
    for position in range(0, len(whole), 3):
        for content in (whole[:position], whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]):
            path.write_bytes(content)
            try:
                read_folder(tmp_path)
            except ValueError as error:
                assert f"a.{suffix}" in str(error)
                refused += 1
    assert refused


def test_a_named_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png is not a regular file"):
        read_folder(tmp_path)


def write_mixed(folder, count: int = 12) -> None:
    """Grey, colour and see-through images of one size."""
    for index in range(count):
        Image.fromarray(GREY + index).convert(("L", "RGB", "LA", "RGBA")[index % 4]).save(folder / f"{index:02}.png")


def test_a_large_folder_is_read_as_it_is_drawn(tmp_path, monkeypatch):
    write_mixed(tmp_path)
    whole = read_folder(tmp_path)
    assert isinstance(whole, np.ndarray)
    monkeypatch.setattr(pictures, "MAX_IN_MEMORY", 100)
    files = read_folder(tmp_path)
    assert isinstance(files, ImageFiles) and files.shape == whole.shape == (12, 3, 8, 8)
    assert np.array_equal(files.read(np.array([5, 0, 5])), whole[[5, 0, 5]])
    assert np.array_equal(files.part(np.array([7, 3])).read(np.array([1])), whole[[3]])
    data = load_dataset(tmp_path)
    assert rows(data.to_data(data.sample(40)).round()) <= rows(torch.tensor(whole).float())


def test_a_large_folder_is_checked_when_it_is_opened_and_when_it_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_IN_MEMORY", 100)
    write_mixed(tmp_path)
    data = load_dataset(tmp_path)
    Image.fromarray(GREY[:4]).save(tmp_path / "03.png")
    with pytest.raises(ValueError, match=r"03\.png has the shape \(3, 4, 8\) and not \(3, 8, 8\)"):
        data.sample(200)
    with pytest.raises(ValueError, match=r"00\.png is 8 x 8 but 03\.png is 4 x 8"):
        load_dataset(tmp_path)
    (tmp_path / "03.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"03\.png cannot be read as an image"):
        data.sample(200)
    with pytest.raises(ValueError, match=r"03\.png cannot be read as an image"):
        load_dataset(tmp_path)


def test_a_crop_is_cut_and_resized(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    crop = Crop((8, 8), (2, 4, 6, 8), 4)
    assert np.array_equal(read_image(tmp_path / "a.png", crop), np.stack([GREY[4:8, 2:6]] * 3))
    means = read_image(tmp_path / "a.png", Crop((8, 8), (0, 0, 8, 8), 1))
    assert np.abs(means.astype(float) - GREY.mean()).max() < 16  # antialiased: far from a single pixel
    with pytest.raises(ValueError, match=r"a\.png has 8 x 8 pixels, and these images have 9 x 8"):
        read_image(tmp_path / "a.png", Crop((9, 8), (0, 0, 8, 8), 4))
