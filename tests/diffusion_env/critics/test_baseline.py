"""The critic of SFT-PG (B): its value network and its penalty."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from diffusion_env.critics import (
    BaselineCritic,
)

SHIFT = torch.tensor([2.0, 0.0])


def test_baseline_needs_a_penalty(check_paragraph: Callable[..., Any]) -> None:
    with pytest.raises(ValueError) as error:
        BaselineCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2))
    check_paragraph(error, "without a penalty", "trajectory_penalty")


@pytest.mark.parametrize("shape", [(3, 2), (1, 4, 2), (3, 4, 5), (2, 3, 4, 2)])
def test_baseline_trajectories_of_a_wrong_shape(check_paragraph: Callable[..., Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:
        BaselineCritic((2,)).trajectory_penalty(torch.zeros(shape))
    check_paragraph(error, str(shape))


def test_baseline_penalty_of_other_trajectories(check_paragraph: Callable[..., Any]) -> None:
    critic = BaselineCritic((2,))
    penalty = critic.trajectory_penalty(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError) as error:
        critic.update(torch.ones(4, 2), torch.ones(5, 2), penalty)
    check_paragraph(error, "4 samples", "5 events")


def test_baseline_fits_its_value_network_on_trajectories(gaussians: Callable[..., Any]) -> None:
    critic = BaselineCritic((2,), width=64)
    critic.set_learning_rate(1e-2)
    _, fake = gaussians(0)
    xs = torch.stack([torch.zeros_like(fake), fake, fake])  # at k = 1 the sample is known, at k = 0 it is not
    for _ in range(150):
        critic.trajectory_penalty(xs)
    scores = critic(fake).detach()
    unexplained = float(critic.trajectory_penalty(xs)(scores))
    assert unexplained == pytest.approx(float(scores.var(correction=0)) / 2, rel=0.1)
    assert torch.equal(scores, critic(fake)), "the value step must leave the critic alone"


def test_baseline_penalty_is_weighted(gaussians: Callable[..., Any]) -> None:
    _, fake = gaussians(0)
    xs = torch.stack([0.5 * fake, fake])
    critics = [BaselineCritic((2,), value_weight=weight) for weight in (1.0, 3.0)]
    first, second = (critic.trajectory_penalty(xs)(critic(fake)) for critic in critics)
    assert float(second.detach()) == pytest.approx(3 * float(first.detach()), rel=1e-5)


def test_baseline_penalty_bounds_the_gap_where_samples_reach(gaussians: Callable[..., Any]) -> None:
    bounded, control = BaselineCritic((2,)), BaselineCritic((2,))
    for seed in range(200):
        real, fake = gaussians(seed, 256, shift=0.25 * SHIFT)
        # The states tell V nothing: the penalty is the variance of f over samples.
        bounded.update(real, fake, bounded.trajectory_penalty(torch.stack([0 * fake, fake])))
        control.update(real, fake, lambda scores: 0 * scores.mean())
    fresh = gaussians(999, 20_000, shift=0.25 * SHIFT)
    chi_squared = math.exp(0.25) - 1
    assert bounded.distance(*fresh) == pytest.approx(chi_squared / 2, abs=0.05)
    assert control.distance(*fresh) > 10
