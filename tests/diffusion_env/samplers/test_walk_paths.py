"""Exact networks on every kind of path bring the data back: with many steps to the floor, with few finite."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mixture import MixtureDenoiser
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.denoiser import Denoiser, EpsDenoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable, ddim, ddpm, levels
from diffusion_env.samplers.walk import sample
from tests.support import seeded

NUM_POINTS = 4_000
PATHS = {"cosine": "v_prediction", "karras": "sample", "rectified_flow": "flow"}
"""Schedule, and what a network trained on it usually predicts."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_dataset("gaussians8")


@pytest.fixture(scope="module")
def distance(data: Dataset) -> Any:
    """SW2 of a sampler, or of points (N, *shape), to held-out data, network units."""
    reference = data.sample(NUM_POINTS, seeded(3), held_out=True)

    def measure(table: StepTable | Tensor, network: Denoiser | None = None) -> float:
        if isinstance(table, StepTable):
            assert network is not None
            table = sample(table, network, NUM_POINTS, seeded())
        return sliced_wasserstein(table, reference, seeded(5))

    return measure


@pytest.fixture(scope="module")
def floor(data: Dataset, distance: Any) -> float:
    return max(distance(data.sample(NUM_POINTS, seeded(seed))) for seed in (10, 11, 12))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
@pytest.mark.parametrize("path", PATHS)
def test_many_steps_reach_the_floor(path: str, sampler: str, data: Dataset, distance: Any, floor: float) -> None:
    assert data.mixture is not None
    schedule = make_schedule(path)
    exact, chosen = MixtureDenoiser(*data.mixture, schedule), levels(300, schedule.num_levels)
    many = ddpm(schedule, chosen) if sampler == "ddpm" else ddim(schedule, chosen)
    assert distance(many, exact) < 1.5 * floor
    assert distance(make_table(sampler, schedule, 3), exact) > 3 * floor  # negative control: few are not enough


@pytest.mark.parametrize("path", PATHS)
def test_a_network_in_its_own_coordinates_does_too(
    path: str, path_network: Any, data: Dataset, distance: Any, floor: float
) -> None:
    assert data.mixture is not None
    table = make_table("ddim", make_schedule(path), 60)
    network = path_network(*data.mixture, make_schedule(path), PATHS[path])
    assert distance(table, network) < 1.5 * floor
    mistaken = EpsDenoiser(network)
    mistaken.inner_prediction = "epsilon"
    assert distance(table, mistaken) > 10 * floor  # negative control


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "fastdpm_step"])
@pytest.mark.parametrize("path", ["karras", "rectified_flow"])
def test_few_steps_are_finite(path: str, sampler: str, path_network: Any, data: Dataset) -> None:
    assert data.mixture is not None
    network = path_network(*data.mixture, make_schedule(path), PATHS[path])
    for num_steps in (*range(1, 21), 1000):
        x = sample(make_table(sampler, make_schedule(path), num_steps), network, 16, seeded())
        assert x.isfinite().all() and x.abs().max() < 6
