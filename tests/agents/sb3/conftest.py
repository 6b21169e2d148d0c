"""One cheap task for the bridge: data N((1, -0.5), 0.25 I), an exact sampler of N(0, I), a fixed reward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from tests.support import nearness

NUM_ENVS, NUM_STEPS = 6, 3

MakeEnv = Callable[..., DDPMShortcutVecEnv]


@pytest.fixture
def keywords(gaussian: Dataset, standard_normal: EpsMLP) -> dict[str, Any]:
    """Keywords of the environment."""
    return {"dataset": gaussian, "denoiser": standard_normal, "num_steps": NUM_STEPS, "critic": nearness}


@pytest.fixture
def make_env(keywords: dict[str, Any]) -> MakeEnv:
    """``make_env(num_envs, seed, **more env_kwargs)``."""

    def make(num_envs: int = NUM_ENVS, seed: int | None = 0, **env_kwargs: Any) -> DDPMShortcutVecEnv:
        return DDPMShortcutVecEnv(num_envs=num_envs, env_kwargs={**keywords, **env_kwargs}, seed=seed)

    return make


@pytest.fixture
def image_kwargs() -> dict[str, Any]:
    """Keywords of an environment whose events are small images."""
    points = torch.randn(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = Dataset("images", points[:200], points[200:], torch.zeros(1, 4, 4), 1.0)
    denoiser = EpsMLP((1, 4, 4), make_schedule("cosine", 50), width=8, depth=1)
    return {"dataset": data, "denoiser": denoiser, "num_steps": 2}
