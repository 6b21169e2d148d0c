"""An exact world for the environment's tests: eight Gaussians, whose denoiser is known in closed form."""

from dataclasses import replace

import pytest

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.samplers.schedules import make_schedule


@pytest.fixture(scope="session")
def ring() -> Dataset:
    data = load_dataset("gaussians8")
    return replace(data, train=data.train[:20_000], held_out=data.held_out[:2_000])


@pytest.fixture(scope="session")
def oracle(ring: Dataset) -> MixtureDenoiser:
    assert ring.mixture is not None
    return MixtureDenoiser(*ring.mixture, make_schedule("cosine"))
