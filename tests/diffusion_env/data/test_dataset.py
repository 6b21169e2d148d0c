"""A data set: its pools, draws, units, devices and refusals."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.random import MT19937, RandomState, SeedSequence

from diffusion_env.data.dataset import HELD_OUT_BRANCH, Dataset
from diffusion_env.data.named import DATASETS, load_dataset
from tests.support import rows


def share_equal(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().amax(dim=1).lt(1e-5).float().mean())


@pytest.mark.parametrize("name", DATASETS)
def test_fresh_points_repeat_neither_pool_whatever_the_seed(generated, name):
    data = generated[name]  # made from seed 3: the seed that could collide
    pool = data.to_data(data.held_out)
    assert share_equal(data.fresh(len(pool), seed=3), pool) < 1e-3
    assert share_equal(data.fresh(len(data.train), seed=3), data.to_data(data.train)) < 1e-3
    stream = RandomState(MT19937(SeedSequence(3, spawn_key=(HELD_OUT_BRANCH,))))
    assert share_equal(torch.tensor(data.draw(len(pool), stream)), pool) == 1.0


def test_sets_that_are_no_mixture_say_so(generated):
    assert generated["moons"].mixture is None and generated["moons"].mode_radius is None


def test_sample_is_a_draw_from_the_asked_pool(generated):
    data = generated["pinwheel"]
    drawn = [data.sample(64, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0].shape == (64, 2) and drawn[0].dtype == torch.float32
    assert drawn[0].equal(drawn[1]) and not drawn[0].equal(drawn[2])
    assert rows(drawn[0]) <= rows(data.train)
    assert rows(data.sample(64, held_out=True)) <= rows(data.held_out)


def test_units_go_back_and_forth_for_tensors_and_arrays(generated):
    data = generated["swiss_roll"]
    x = data.sample(32)
    assert data.from_data(data.to_data(x)).allclose(x, atol=1e-6)
    array = data.to_data(x.numpy())
    assert isinstance(array, np.ndarray) and np.allclose(array, data.to_data(x).numpy())
    assert not np.allclose(array, x.numpy(), atol=0.1)


def test_a_data_set_passes_through_and_moves_and_pickles(generated):
    data = generated["gaussians8"]
    assert load_dataset(data) is data
    moved = data.to("cpu")
    assert moved.train[:].equal(data.train[:]) and moved.draw is data.draw and moved.device.type == "cpu"
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fresh(10, seed=0).equal(data.fresh(10, seed=0))


@pytest.mark.gpu
def test_a_moved_set_draws_on_its_device(generated):
    data = generated["gaussians8"].to("cuda")
    x = data.sample(8, torch.Generator("cuda").manual_seed(0))
    assert x.device.type == data.to_data(x).device.type == data.fresh(8, seed=0).device.type == "cuda"


def test_a_data_set_whose_parts_differ_in_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) and held-out points of shape \(3,\)"):
        Dataset("mine", torch.zeros(10, 2), torch.zeros(5, 3), torch.zeros(2), 1.0)


@pytest.mark.parametrize("part", ["train", "held_out"])
def test_points_that_are_not_finite_are_refused(part: str) -> None:
    points: dict[str, Any] = {"train": torch.zeros(20, 2), "held_out": torch.zeros(10, 2)}
    sound = Dataset("own", points["train"], points["held_out"], torch.zeros(2), 1.0)
    points[part][3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"'own' holds 1 (training|held-out) points with values that are NaN"):
        replace(sound, **points)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"train": [[1.0, 2.0]]}, TypeError),
        ({"train": torch.zeros(5)}, ValueError),
        ({"train": torch.zeros(0, 2)}, ValueError),
        ({"train": torch.zeros(5, 2, dtype=torch.float64)}, ValueError),
        ({"scale": 0.0}, ValueError),
        ({"scale": "1"}, TypeError),
        ({"name": None}, TypeError),
    ],
)
def test_fields_of_another_type_are_refused_by_name(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="Dataset"):
        replace(Dataset("own", torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(2), 1.0), **change)


IMAGES = torch.arange(20 * 3 * 2 * 4, dtype=torch.uint8).reshape(20, 3, 2, 4)


def test_images_become_network_units_and_back() -> None:
    data = Dataset.of_images("mine", IMAGES[:15], IMAGES[15:])
    assert data.shape == (3, 2, 4) and not data.flips and not data.named
    assert data.to_data(data.train[:]).allclose(IMAGES[:15].float(), atol=1e-4)
    assert data.from_data(IMAGES[15:].float()).allclose(data.held_out[:], atol=1e-6)
    assert rows(data.to_data(data.sample(50)).round()) <= rows(IMAGES[:15].float())
    assert rows(data.fresh(5, seed=0).round()) == rows(IMAGES[15:].float())


def test_training_images_are_mirrored_half_of_the_time() -> None:
    plain = Dataset.of_images("mine", IMAGES[:15], IMAGES[15:])
    flipped = replace(plain, flips=True)
    pools = [rows(plain.train[:]), rows(plain.train[:].flip(-1))]
    drawn = [rows(one) for one in flipped.sample(400, torch.Generator().manual_seed(0)).split(1)]
    straight = sum(one <= pools[0] for one in drawn)
    assert all(one <= pools[0] | pools[1] for one in drawn) and 150 < straight < 250
    assert rows(flipped.sample(50, held_out=True)) <= rows(flipped.held_out[:])  # measured as they are
    again = [flipped.sample(9, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert again[0].equal(again[1]) and not again[0].equal(again[2])


def test_without_flips_the_generator_is_used_as_before() -> None:
    generators = [torch.Generator().manual_seed(0) for _ in range(2)]
    Dataset.of_images("mine", IMAGES, IMAGES).sample(7, generators[0])
    torch.randint(20, (7,), generator=generators[1])
    assert generators[0].get_state().equal(generators[1].get_state())


def test_points_cannot_be_mirrored() -> None:
    with pytest.raises(ValueError, match=r"'own' has points of shape \(2,\) and flips"):
        Dataset("own", torch.zeros(5, 2), torch.zeros(5, 2), torch.zeros(2), 1.0, flips=True)


def test_parts_of_another_resolution_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2, 4\) and held-out points of shape \(3, 2, 3\)"):
        Dataset.of_images("mine", IMAGES, IMAGES[..., 1:])
