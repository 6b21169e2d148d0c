"""Data sets: their laws and constants, the split of training from held-out points, and every unusable file."""

import pickle

import numpy as np
import pytest
import torch
from numpy.random import MT19937, RandomState, SeedSequence

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import DATASET_NAMES, DATASETS, HELD_OUT_BRANCH, IMAGE_SETS, ImageSet, load_dataset
from diffusion_env.evaluation.metrics import sliced_wasserstein


@pytest.fixture(scope="module")
def generated() -> dict[str, Dataset]:
    return {name: load_dataset(name, seed=3) for name in DATASETS}


def rows(points: torch.Tensor) -> set[bytes]:
    return {row.tobytes() for row in points.flatten(1).numpy()}


@pytest.mark.parametrize("name", DATASETS)
def test_fixed_constants_standardise_every_generated_set(generated, name):
    train = generated[name].train
    assert train.mean(dim=0).abs().max() < 0.02
    assert abs(train.var(dim=0).mean() - 1.0) < 0.02


def test_standardisation_is_not_met_by_another_sets_constants(generated):
    other = DATASETS["moons"]
    points = generated["swiss_roll"].to_data(generated["swiss_roll"].train)
    assert ((points - torch.tensor(other.center)) / other.scale).mean(dim=0).abs().max() > 0.2


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


def test_moons_follow_the_law_of_scikit_learn():
    from sklearn.datasets import make_moons

    theirs = torch.tensor(make_moons(40_000, noise=0.05, random_state=0)[0], dtype=torch.float32)
    ours = load_dataset("moons").fresh(40_000, seed=0)
    generator = torch.Generator().manual_seed(0)
    assert sliced_wasserstein(ours, theirs, generator) < 0.02
    assert sliced_wasserstein(ours, -theirs, generator) > 0.2


def test_swiss_roll_is_the_published_one(generated):
    x = generated["swiss_roll"].fresh(20_000, seed=1) * 20.0
    radius, angle = x.norm(dim=1), torch.atan2(x[:, 1], x[:, 0])
    # On the roll the radius is the angle, unwound: they agree modulo a turn up to the noise of 0.05.
    off = torch.remainder(radius - angle + torch.pi, 2 * torch.pi) - torch.pi
    assert off.abs().quantile(0.99) < 0.2
    assert 4.6 < radius.min() < 4.8 and 14.1 < radius.max() < 14.4


def test_checkerboard_fills_half_of_the_board(generated):
    cells = (generated["checkerboard"].fresh(20_000, seed=1) + 2.0).floor().long()
    counts = torch.zeros(4, 4, dtype=torch.long).index_put_(tuple(cells.T), torch.tensor(1), accumulate=True)
    assert (counts[(torch.arange(4)[:, None] + torch.arange(4)) % 2 == 1] == 0).all()
    assert (counts > 2_200).sum() == 8


@pytest.mark.parametrize(
    ("name", "count", "spread"),
    [("gaussians8", 8, 0.5 / 1.414), ("gaussians25", 25, 0.05 / 2.828)],
)
def test_mixture_is_the_law_of_the_points(generated, name, count, spread):
    data = generated[name]
    means, std = data.mixture
    assert means.shape == (count, 2) and std * data.scale == pytest.approx(spread)
    distance, nearest = torch.cdist(data.train[:50_000], means).min(dim=1)
    assert distance.square().mean().sqrt() == pytest.approx(std * 2**0.5, rel=0.01)
    assert torch.bincount(nearest).float().div(50_000 / count).sub(1).abs().max() < 0.15
    assert data.mode_radius == pytest.approx(3 * spread)
    assert data.to_data(means).allclose(data.modes, atol=1e-6)


def test_sets_that_are_no_mixture_say_so(generated):
    assert generated["moons"].mixture is None and generated["moons"].mode_radius is None


def test_seed_fixes_the_pools():
    a, b, other = (load_dataset("moons", seed=seed) for seed in (1, 1, 2))
    assert a.train.equal(b.train) and a.held_out.equal(b.held_out)
    assert not a.train.equal(other.train) and not rows(a.train[:10_000]) & rows(other.train)
    assert a.fresh(100, seed=5).equal(other.fresh(100, seed=5))
    assert not a.fresh(100, seed=5).equal(a.fresh(100, seed=6))


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
    assert moved.train.equal(data.train) and moved.draw is data.draw and moved.device.type == "cpu"
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fresh(10, seed=0).equal(data.fresh(10, seed=0))


@pytest.mark.gpu
def test_a_moved_set_draws_on_its_device(generated):
    data = generated["gaussians8"].to("cuda")
    x = data.sample(8, torch.Generator("cuda").manual_seed(0))
    assert x.device.type == data.to_data(x).device.type == data.fresh(8, seed=0).device.type == "cuda"


def test_a_new_image_set_is_a_line_in_the_table(monkeypatch):
    values = np.arange(10 * 3 * 4 * 4).reshape(10, 3, 4, 4) % 6
    monkeypatch.setitem(IMAGE_SETS, "tiles", ImageSet(lambda: values, 5.0))
    data = load_dataset("tiles", seed=1)
    both = torch.cat([data.train, data.held_out])
    assert data.name == "tiles" and data.shape == (3, 4, 4) and len(data.train) == 8
    assert float(both.min()) == -1.0 and float(both.max()) == 1.0
    assert rows(data.to_data(both).round()) == rows(torch.tensor(values).float())


def test_the_known_names_are_those_of_both_tables():
    assert set(DATASET_NAMES) == {*DATASETS, *IMAGE_SETS} and len(DATASET_NAMES) == len(set(DATASET_NAMES))


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'swis_roll' is neither.*swiss_roll, moons.*digits.*folder of images"):
        load_dataset("swis_roll")


def test_a_data_set_of_two_shapes_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2,\) and held-out points of shape \(3,\)"):
        Dataset("mine", torch.zeros(10, 2), torch.zeros(5, 3), torch.zeros(2), 1.0)
