"""A small world for the agents' outer parts: 3,000 points in the plane and an untrained denoiser, as files."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_env.denoisers import EpsMLP
from diffusion_env.schedules import make_schedule


@pytest.fixture(scope="session")
def points_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(3_000, 2)))
    return path


@pytest.fixture(scope="session")
def denoiser_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = EpsMLP((2,), make_schedule("cosine", 50), 16, 2, torch.Generator().manual_seed(0))
    return network.save(tmp_path_factory.mktemp("weights") / "denoiser.safetensors")


@pytest.fixture(scope="session")
def small_world(points_file: Path, denoiser_file: Path) -> dict[str, object]:
    """Keywords of an environment whose episodes take two cheap steps."""
    return {"dataset": str(points_file), "denoiser": str(denoiser_file), "num_steps": 2}
