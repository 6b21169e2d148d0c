"""Data sets by name: fixed constants, one law for all pools, seeds, image sets, unknown names."""

from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env.data.image_sets import IMAGE_SETS, ImageSet
from diffusion_env.data.named import DATASET_NAMES, DATASETS, load_dataset
from diffusion_env.evaluation.metrics import sliced_wasserstein
from tests.support import rows


@pytest.mark.parametrize("name", DATASETS)
def test_fixed_constants_standardise_every_generated_set(generated, name):
    train = generated[name].train
    assert train.mean(dim=0).abs().max() < 0.02
    assert abs(train.var(dim=0).mean() - 1.0) < 0.02


def test_standardisation_is_not_met_by_another_sets_constants(generated):
    other = DATASETS["moons"]
    points = generated["swiss_roll"].to_data(generated["swiss_roll"].train)
    assert ((points - torch.tensor(other.center)) / other.scale).mean(dim=0).abs().max() > 0.2


@pytest.mark.parametrize("name", DATASETS)
def test_train_held_out_and_fresh_points_follow_one_law(generated, name):
    data = generated[name]
    train, held_out = data.train[:20_000], data.held_out[:20_000]
    fresh = data.from_data(data.fresh(20_000, seed=3))
    assert not rows(train) & rows(held_out)
    generator = torch.Generator().manual_seed(0)
    assert sliced_wasserstein(train, held_out, generator) < 0.06
    assert sliced_wasserstein(train, fresh, generator) < 0.06
    assert sliced_wasserstein(train, fresh * 1.2, generator) > 0.12


def test_seed_fixes_the_pools():
    a, b, other = (load_dataset("moons", seed=seed) for seed in (1, 1, 2))
    assert a.train[:].equal(b.train[:]) and a.held_out[:].equal(b.held_out[:])
    assert not a.train[:].equal(other.train[:]) and not rows(a.train[:10_000]) & rows(other.train[:])
    assert a.fresh(100, seed=5).equal(other.fresh(100, seed=5))
    assert not a.fresh(100, seed=5).equal(a.fresh(100, seed=6))


def test_a_new_image_set_is_a_line_in_the_table(monkeypatch):
    values = (np.arange(10 * 3 * 4 * 4).reshape(10, 3, 4, 4) % 6).astype(np.uint8)
    tiles = ImageSet(lambda place: (values, None), (3, 4, 4), (8, 2), highest=5.0, installed=True)
    monkeypatch.setitem(IMAGE_SETS, "tiles", tiles)
    data = load_dataset("tiles", seed=1)
    both = torch.cat([data.train[:], data.held_out[:]])
    assert data.name == "tiles" and data.shape == (3, 4, 4) and len(data.train) == 8
    assert float(both.min()) == -1.0 and float(both.max()) == 1.0
    assert rows(data.to_data(both).round()) == rows(torch.tensor(values).float())


def test_the_known_names_are_those_of_both_tables():
    assert set(DATASET_NAMES) == {*DATASETS, *IMAGE_SETS} and len(DATASET_NAMES) == len(set(DATASET_NAMES))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'swis_roll' is neither.*swiss_roll, moons.*digits.*folder of images"):
        load_dataset("swis_roll")


@pytest.mark.parametrize("dataset", [None, [1.0], b"moons", np.zeros((50, 2)), torch.zeros(50, 2), 3])
def test_what_is_no_data_set_is_refused_in_words(dataset: Any) -> None:
    with pytest.raises(TypeError, match=rf"is a name, a path or a Dataset; received {type(dataset).__name__}"):
        load_dataset(dataset)


@pytest.mark.parametrize("dataset", ["", "a\0b", "x" * 5_000])
def test_a_name_that_no_path_can_have_is_an_unknown_name(dataset: str) -> None:
    with pytest.raises(ValueError, match="neither a known name nor an existing path"):
        load_dataset(dataset)
