"""A critic trained anew: nothing to see in fresh data, thin noise seen after hundreds of steps, a stop of its own."""

import pytest
import torch

from diffusion_env.critics import make_critic
from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.refitted import ROUND_STEPS, refitted_ipm


@pytest.fixture(scope="module")
def roll() -> tuple[torch.Tensor, torch.Tensor]:
    data = load_dataset("swiss_roll")
    first, second = data.from_data(data.fresh(8_000, 5)).split(4_000)
    return first, second


def noise(like: torch.Tensor, std: float) -> torch.Tensor:
    return std * torch.randn(like.shape, generator=torch.Generator().manual_seed(1))


def test_fresh_data_have_no_gap_and_blurred_data_have_one(roll: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, spare = roll
    floor, blurred = (
        refitted_ipm(make_critic("energy", (2,), 3), points, reference, 0, patience_steps=150, max_steps=600)
        for points in (spare, spare + noise(spare, 0.1))
    )
    assert abs(floor.gap) < 0.05 and floor.num_steps < 600
    assert blurred.gap > 0.4 and blurred.num_steps == 600  # still rising when it was stopped


def test_a_young_critic_does_not_see_thin_noise(roll: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Why it is trained until the gap stops rising."""
    reference, spare = roll
    blurred = spare + noise(spare, 0.1)
    young = refitted_ipm(make_critic("energy", (2,), 3), blurred, reference, 0, max_steps=ROUND_STEPS)
    assert young.gap < 0.2 and young.num_steps == ROUND_STEPS


def test_it_is_fixed_by_its_seed_and_leaves_the_points_alone(roll: tuple[torch.Tensor, torch.Tensor]) -> None:
    reference, spare = roll
    before = spare.clone()
    found = [
        refitted_ipm(make_critic("energy", (2,), 3), spare, reference, seed, max_steps=100).gap for seed in (1, 1, 2)
    ]
    assert found[0] == found[1] != found[2] and torch.equal(spare, before)


def test_too_few_points_are_refused() -> None:
    few = torch.zeros(7, 2)
    with pytest.raises(ValueError, match=r"7 samples and 7 data points.*at least 8"):
        refitted_ipm(make_critic("energy", (2,)), few, few, 0)
