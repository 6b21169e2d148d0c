"""The 2-D distributions against scikit-learn, published figures and exact laws."""

import pytest
import torch

from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.metrics import sliced_wasserstein


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
