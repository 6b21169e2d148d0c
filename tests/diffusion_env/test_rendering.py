"""Pictures: size and type, what is in them, points of any dimension and images, videos."""

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

from diffusion_env import rendering
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.rendering import image_grid, is_image, render_particles
from diffusion_env.vector_env import DDPMShortcutVectorEnv

PARTICLE = np.array([0xD1, 0x49, 0x5B])


def red_pixels(frame: NDArray[np.uint8]) -> int:
    """How many pixels have the particles' colour, up to blending."""
    return int((np.abs(frame.astype(int) - PARTICLE).max(-1) < 40).sum())


def dataset(tmp_path: Path, shape: tuple[int, ...], dtype: Any = np.float64) -> Dataset:
    values = np.random.default_rng(0).uniform(0, 255, (50, *shape)).astype(dtype)
    np.savez(tmp_path / "data.npz", x=values)
    return load_dataset(tmp_path / "data.npz")


def check_frame(frame: NDArray[np.uint8]) -> None:
    assert frame.shape == (400, 400, 3) and frame.dtype == np.uint8
    assert frame.flags.c_contiguous and frame.flags.owndata


class TestPoints:
    def test_a_single_particle_leaves_its_path(self, ring: Dataset, oracle: MixtureDenoiser) -> None:
        env = DDPMShortcutEnv(ring, 3, action_mode="residual", denoiser=oracle, render_mode="rgb_array")
        env.reset(seed=0)
        counts = []
        for k in range(4):
            frame = env.render()
            assert frame is not None
            check_frame(frame)
            counts.append(red_pixels(frame))
            if k < 3:
                env.step(np.array([1.0, (-1.0) ** k], np.float32))
        assert 0 < counts[0] < counts[1] < counts[2] < counts[3]

    def test_many_particles(self, ring: Dataset) -> None:
        counts = {}
        for n in (60, 1_000):
            envs = DDPMShortcutVectorEnv(n, ring, render_mode="rgb_array")
            envs.reset(seed=0)
            frames = envs.render()
            assert frames is not None and len(frames) == n  # as gymnasium's wrappers count them
            check_frame(frames[0])
            counts[n] = red_pixels(frames[0])
        assert 0 < 4 * counts[60] < counts[1_000]

    def test_without_a_render_mode_there_is_no_picture(self, ring: Dataset) -> None:
        for envs in (DDPMShortcutEnv(ring), DDPMShortcutVectorEnv(2, ring)):
            envs.reset(seed=0)
            assert envs.render() is None

    def test_the_density_is_made_once_and_is_the_data_s(self, ring: Dataset) -> None:
        backdrop = rendering.backdrop(ring)
        assert rendering.backdrop(ring) is backdrop
        left, right, bottom, top = backdrop.extent
        rows, columns = np.nonzero(backdrop.density > 0.5)
        x = left + (columns + 0.5) / rendering.DENSITY_CELLS * (right - left)
        y = bottom + (rows + 0.5) / rendering.DENSITY_CELLS * (top - bottom)
        assert ring.modes is not None
        modes = ring.modes.numpy()
        nearest = np.linalg.norm(np.stack([x, y], 1)[:, None] - modes, axis=-1)
        assert nearest.min(1).max() < 1.0 and nearest.min(0).max() < 0.2  # near a mode each, and no mode missing

    @pytest.mark.parametrize("shape", [(1,), (3,), (5, 2, 2), (2, 2, 2, 2)])
    def test_other_dimensions(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        for n in (1, 5):
            envs = DDPMShortcutVectorEnv(n, dataset(tmp_path, shape), 2)
            envs.reset(seed=0)
            check_frame(render_particles(envs.process))

    def test_the_title_tells_the_steps_apart(self, ring: Dataset) -> None:
        envs = DDPMShortcutVectorEnv(2, ring, 3, autoreset_mode="NextStep")
        envs.reset(seed=0)
        envs.step(np.zeros((2, 2), np.float32))
        assert rendering.steps_shown(envs.process) == "1"
        envs.reset(options={"reset_mask": np.array([True, False])})
        assert rendering.steps_shown(envs.process) == "0 ... 1"

    def test_pyplot_is_not_needed(self, ring: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
        envs = DDPMShortcutVectorEnv(2, ring)
        envs.reset(seed=0)
        check_frame(render_particles(envs.process))


class TestImages:
    @pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (3, 8, 6), (4, 6, 8)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.float64])
    def test_a_grid_of_the_first_ones(self, tmp_path: Path, shape: tuple[int, ...], dtype: Any) -> None:
        data = dataset(tmp_path, shape, dtype)
        for n in (1, 100):
            envs = DDPMShortcutVectorEnv(n, data, 2)
            envs.reset(seed=0)
            check_frame(render_particles(envs.process))

    def test_which_events_are_images(self) -> None:
        assert all(map(is_image, [(8, 8), (1, 8, 8), (3, 8, 8), (4, 8, 8)]))
        assert not any(map(is_image, [(2,), (5, 8, 8), (2, 8, 8), (1, 3, 8, 8)]))

    def test_grey_grid(self) -> None:
        images = np.arange(3, dtype=float)[:, None, None, None] / 10 * np.ones((3, 1, 2, 2))
        expected = np.array(
            [
                [0.0, 0.0, 1.0, 0.1, 0.1, 1.0],
                [0.0, 0.0, 1.0, 0.1, 0.1, 1.0],
                [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
                [0.2, 0.2, 1.0, 1.0, 1.0, 1.0],
                [0.2, 0.2, 1.0, 1.0, 1.0, 1.0],
                [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            ]
        )
        np.testing.assert_array_equal(image_grid(images), expected)
        np.testing.assert_array_equal(image_grid(images[:, 0]), expected)

    def test_colour_grid(self) -> None:
        images = np.random.default_rng(0).random((2, 3, 4, 5))
        grid = image_grid(images)
        assert grid.shape == (5, 12, 3)
        np.testing.assert_array_equal(grid[:4, 6:11], images[1].transpose(1, 2, 0))
        np.testing.assert_array_equal(image_grid(np.pad(images, [(0, 0), (0, 1), (0, 0), (0, 0)])), grid)  # no alpha


class TestVideo:
    def test_single(self, ring: Dataset, tmp_path: Path) -> None:
        pytest.importorskip("moviepy", reason="gymnasium's RecordVideo needs moviepy")
        env = gym.make("DDPMShortcut-v0", dataset=ring, num_steps=2, render_mode="rgb_array")
        recorded = gym.wrappers.RecordVideo(env, str(tmp_path / "single"))
        recorded.reset(seed=0)
        for _ in range(2):
            recorded.step(np.zeros(2, np.float32))
        recorded.close()
        assert [video.stat().st_size > 0 for video in (tmp_path / "single").glob("*.mp4")] == [True]

    def test_vector(self, ring: Dataset, tmp_path: Path) -> None:
        pytest.importorskip("moviepy", reason="gymnasium's RecordVideo needs moviepy")
        envs = DDPMShortcutVectorEnv(100, ring, 2, autoreset_mode="NextStep", render_mode="rgb_array")
        recorded = gym.wrappers.vector.RecordVideo(envs, str(tmp_path / "vector"), record_first_only=True)
        recorded.reset(seed=0)
        for _ in range(3):
            recorded.step(np.zeros((100, 2), np.float32))
        recorded.close()
        assert list((tmp_path / "vector").glob("*.mp4"))
