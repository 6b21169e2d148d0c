"""Metrics against closed forms and other people's solvers, with negative controls."""

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from diffusion_env.evaluation.metrics import (
    exact_w1,
    median_bandwidths,
    mmd,
    mode_coverage,
    nearest_distances,
    off_support,
    recall,
    sliced_wasserstein,
)
from tests.support import normal, seeded


@pytest.mark.parametrize("shape", [(2,), (1, 3, 3)])
def test_sliced_distance_of_a_shift_is_its_length_over_the_root_of_the_dimension(shape):
    x, shift = normal(2_000, *shape), normal(*shape, seed=1)
    expected = float(shift.norm()) / shift.numel() ** 0.5
    assert sliced_wasserstein(x, x + shift, seeded(), 5_000) == pytest.approx(expected, rel=0.03)


def test_sliced_distance_of_gaussians():
    # W2 of N(0, 1) and N(0, 4) is 1 along every direction.
    assert sliced_wasserstein(normal(50_000, 2), 2 * normal(50_000, 2, seed=1), seeded()) == pytest.approx(
        1.0, abs=0.02
    )


def test_sliced_distance_in_one_dimension_is_the_exact_transport():
    x, y = normal(300, 1), normal(300, 1, seed=1) ** 2
    assert sliced_wasserstein(x, y, seeded(), p=1) == pytest.approx(exact_w1(x, y), rel=1e-5)
    assert sliced_wasserstein(x, y, seeded(), p=2) > exact_w1(x, y) * 1.05


def test_sliced_distance_is_a_function_of_its_generator_and_bounded_batches():
    x, y = normal(500, 2), normal(500, 2, seed=1)
    assert sliced_wasserstein(x, y, seeded()) == sliced_wasserstein(x, y, seeded())
    assert sliced_wasserstein(x, y, seeded()) != sliced_wasserstein(x, y, seeded(1))
    assert sliced_wasserstein(x, x, seeded()) == 0.0
    u = torch.randn(25, 2, generator=seeded())
    u = u / u.norm(dim=1, keepdim=True)
    gaps = (x @ u.T).sort(dim=0).values - (y @ u.T).sort(dim=0).values
    assert sliced_wasserstein(x, y, seeded(), 25) == pytest.approx(float(gaps.square().mean().sqrt()), rel=1e-5)


def test_sliced_distance_needs_sets_of_one_size():
    with pytest.raises(ValueError, match="10 points against 11"):
        sliced_wasserstein(normal(10, 2), normal(11, 2), seeded())


def test_exact_w1_is_the_optimal_assignment():
    x, y = normal(200, 3), normal(200, 3, seed=1) + 0.3
    cost = torch.cdist(x.double(), y.double()).numpy()
    row, column = linear_sum_assignment(cost)
    assert exact_w1(x, y) == pytest.approx(cost[row, column].mean(), rel=1e-9)
    assert exact_w1(x, y) < np.trace(cost) / 200 - 0.5


def test_exact_w1_of_a_shift_and_of_sets_of_different_size():
    x = normal(300, 2)
    assert exact_w1(x, x + torch.tensor([0.3, 0.4])) == pytest.approx(0.5, rel=1e-5)
    assert exact_w1(x, torch.cat([x, x])) == pytest.approx(0.0, abs=1e-6)


def test_exact_w1_refuses_what_would_take_too_long():
    with pytest.raises(ValueError, match=r"3001 points .* at most 3000"):
        exact_w1(torch.zeros(3_001, 2), torch.zeros(10, 2))


@pytest.mark.parametrize("dimensions", [2, 20])
def test_nearest_distances_by_tree_and_by_all_pairs(dimensions):
    x, reference = normal(1_500, dimensions), normal(700, dimensions, seed=1)
    brute = (x.double()[:, None] - reference.double()).norm(dim=2).amin(dim=1)
    assert nearest_distances(x, reference).double().allclose(brute, atol=1e-4)


def test_off_support_counts_the_far_points():
    reference = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    x = torch.tensor([[0.02, 0.0], [1.0, 0.029], [0.5, 0.0], [0.04, 0.0]])
    assert off_support(x, reference) == 0.5
    assert off_support(x, reference, radius=0.1) == 0.25
    assert off_support(x, reference, radius=0.01) == 1.0


def test_mmd_of_gaussians_matches_the_closed_form():
    # For N(0, 1) against N(m, 1) in D dimensions and a Gaussian kernel of bandwidth s:
    # MMD^2 = 2 (s^2 / (s^2 + 2))^(D/2) (1 - exp(-|m|^2 / (2 (s^2 + 2)))).
    shift, s = torch.tensor([1.0, 0.5]), 1.5
    squared = 2 * s**2 / (s**2 + 2) * (1 - float(torch.exp(-shift.square().sum() / (2 * (s**2 + 2)))))
    x, y = normal(4_000, 2), normal(4_000, 2, seed=1) + shift
    assert mmd(x, y, [s]) == pytest.approx(squared**0.5, rel=0.05)
    assert mmd(x, normal(4_000, 2, seed=2), [s]) < 0.1 * squared**0.5


def test_mmd_averages_its_bandwidths_and_is_a_v_statistic():
    x, y = normal(50, 2), normal(70, 2, seed=1) + 0.5
    squares = [mmd(x, y, [s]) ** 2 for s in (0.5, 2.0)]
    assert mmd(x, y, [0.5, 2.0]) ** 2 == pytest.approx(sum(squares) / 2, rel=1e-4)
    assert mmd(x, x, [0.5]) == pytest.approx(0.0, abs=1e-3)
    pair = torch.tensor([[0.0], [1.0]])
    k = float(np.exp(-0.5))
    assert mmd(pair, torch.zeros(1, 1), [1.0]) ** 2 == pytest.approx((2 + 2 * k) / 4 + 1 - (1 + k), rel=1e-4)


def test_default_bandwidths_follow_the_scale_of_the_data():
    x, y = normal(500, 2), normal(500, 2, seed=1) + 0.5
    # The median distance of two points of a 2-D unit Gaussian is sqrt(4 ln 2).
    assert median_bandwidths(normal(1_000, 2))[2] == pytest.approx((4 * np.log(2)) ** 0.5, rel=0.03)
    assert mmd(10 * x, 10 * y) == pytest.approx(mmd(x, y), rel=1e-3)


def test_mode_coverage_needs_a_tenth_of_the_fair_share():
    modes = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]])
    x = modes[[0] * 300 + [1] * 89 + [2] * 10 + [3] * 1].clone()
    assert mode_coverage(x, modes, radius=1.0) == 0.75
    x[300:389, 1] += 2.0
    assert mode_coverage(x, modes, radius=1.0) == 0.5


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (torch.zeros(5, 2), torch.zeros(5, 3)),
        (torch.zeros(5), torch.zeros(5)),
        (torch.zeros(0, 2), torch.zeros(5, 2)),
        (torch.zeros(5, 2), torch.zeros(0, 2)),
    ],
)
def test_sets_of_different_shape_or_empty_are_refused(x, y):
    for metric in (exact_w1, mmd, nearest_distances):
        with pytest.raises(ValueError, match="same shape of a point and at least one point"):
            metric(x, y)


def brute_recall(x: torch.Tensor, reference: torch.Tensor, neighbours: int) -> float:
    """The definition, point by point, in float64."""
    x, reference = x.flatten(1).double(), reference.flatten(1).double()
    radii = [sorted((x - centre).norm(dim=1).tolist())[neighbours] for centre in x]
    reached = [any((point - c).norm() <= r for c, r in zip(x, radii, strict=True)) for point in reference]
    return sum(reached) / len(reached)


@pytest.mark.parametrize(("dimensions", "neighbours"), [(2, 3), (2, 1), (20, 3)])
def test_recall_is_its_definition_by_tree_and_by_all_pairs(dimensions, neighbours):
    x, reference = normal(60, dimensions), (1.5 if dimensions == 2 else 1.0) * normal(50, dimensions, seed=1)
    expected = brute_recall(x, reference, neighbours)
    assert 0.2 < expected < 0.95
    assert recall(x, reference, neighbours) == pytest.approx(expected)


def test_recall_falls_with_a_lost_mode_and_not_with_points_off_the_data():
    modes = torch.tensor([[-5.0, 0.0], [5.0, 0.0]])
    data = normal(2_000, 2, seed=1) + modes[torch.arange(2_000) % 2]
    both, one = normal(2_000, 2) + modes[torch.arange(2_000) % 2], normal(2_000, 2) + modes[0]
    assert recall(both, data) > 0.95
    assert recall(one, data) == pytest.approx(0.5, abs=0.03)
    assert recall(torch.cat([both, 100 + normal(500, 2)]), data) > 0.95
    assert recall(modes[torch.arange(2_000) % 2], data) == 0.0  # collapsed to the centres: balls without extent


def test_recall_needs_more_samples_than_neighbours():
    with pytest.raises(ValueError, match="3-th nearest other sample among 3 samples"):
        recall(normal(3, 2), normal(5, 2))


@pytest.mark.gpu
def test_recall_on_cuda_agrees_with_the_cpu():
    x, reference = normal(3_000, 2), 1.5 * normal(3_000, 2, seed=1)
    assert recall(x.cuda(), reference.cuda()) == pytest.approx(recall(x, reference), abs=1e-3)
