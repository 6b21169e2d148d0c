"""A task whose answer is known: eight Gaussians, with the denoiser in closed form, and an environment of it."""

from dataclasses import replace

import pytest

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.samplers.schedules import make_schedule


@pytest.fixture(scope="session")
def ring() -> Dataset:
    data = load_dataset("gaussians8")
    return replace(data, train=data.train[:20_000], held_out=data.held_out[:2_000])


@pytest.fixture(scope="session")
def oracle(ring: Dataset) -> MixtureDenoiser:
    assert ring.mixture is not None
    return MixtureDenoiser(*ring.mixture, make_schedule("cosine"))


@pytest.fixture
def env(ring: Dataset, oracle: MixtureDenoiser) -> DDPMShortcutEnv:
    return DDPMShortcutEnv(ring, num_steps=3, action_mode="residual", denoiser=oracle)
