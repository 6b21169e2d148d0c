"""What the protocol sees beside distances: classifiers and a critic trained anew, on points and on images."""

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import nn

from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import CRITICS, EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.protocol import evaluate, floor

BLUR = 0.1
"""Standard deviation of the noise, network units: what a sampler keeps whose least std is 0.1."""
ROLL = EvaluationConfig(num_samples=5_000, w1_samples=100, support_points=5_000, seeds=(0, 1), refit_steps=600)
IMAGES = EvaluationConfig(num_samples=300, w1_samples=50, num_projections=5, seeds=(0,), refit_steps=60)


@pytest.fixture(scope="module")
def images() -> Dataset:
    points = torch.randn(2_000, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Dataset("images", points[:1_000], points[1_000:], torch.zeros(1, 8, 8), 1.0)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """Fresh points of the swiss roll, and training points with a little noise."""
    data = load_dataset("swiss_roll")

    def blurred(n: int, generator: torch.Generator) -> torch.Tensor:
        points = data.sample(n, generator)
        return data.to_data(points + BLUR * torch.randn(points.shape, generator=generator))

    return {
        "blurred": evaluate(blurred, data, ROLL),
        "floor": floor(data, ROLL),
        "young": evaluate(blurred, data, replace(ROLL, seeds=(0,), refit_steps=50)),
    }


def test_thin_noise_is_seen_where_sw2_hardly_moves(rows: dict[str, dict[str, Any]]) -> None:
    blurred, bottom = rows["blurred"], rows["floor"]
    assert blurred["sw2_mean"] < 1.6 * bottom["sw2_mean"]
    for name in ("auc_boosting", "auc_neighbours"):
        assert min(blurred["per_seed"][name]) > 0.8
        assert max(abs(auc - 0.5) for auc in bottom["per_seed"][name]) < 0.04
    assert blurred["refitted_ipm"] > 0.5 and abs(bottom["refitted_ipm"]) < 0.05


def test_a_young_critic_does_not_see_it(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["young"]["refitted_ipm"] < 0.2 < 0.3 * rows["blurred"]["refitted_ipm"] + 0.05


def test_classifiers_judge_every_seed_and_the_critic_the_first(rows: dict[str, dict[str, Any]]) -> None:
    seeds = rows["floor"]["per_seed"]
    assert len(set(seeds["auc_boosting"])) == len(set(seeds["auc_neighbours"])) == 2
    assert seeds["refitted_ipm"] == [rows["floor"]["refitted_ipm"], None]


def bodies_made(data: Dataset, config: EvaluationConfig) -> list[str]:
    """The bodies of the critics that an evaluation makes."""
    made = []

    class Watched(EnergyCritic):
        def build_network(self, generator: torch.Generator) -> nn.Module:
            made.append(self.body)
            return super().build_network(generator)

    with patch.dict(CRITICS, energy=Watched):
        floor(data, config)
    return made


def test_the_shape_chooses_the_body_unless_one_is_named(images: Dataset) -> None:
    few = replace(IMAGES, refit_steps=3)
    assert bodies_made(images, few) == ["conv"]
    assert bodies_made(images, replace(few, refit_body="mlp")) == ["mlp"]
    assert bodies_made(images, replace(few, refit_critic=None)) == []


@pytest.mark.parametrize("critic", ["energy", "gradient_penalty"])
def test_it_sees_what_is_wrong_with_images(images: Dataset, critic: str) -> None:
    config = replace(IMAGES, refit_critic=critic)

    def darker(n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 1, 8, 8, generator=generator).clamp(-1, 1) - 0.5

    wrong, right = evaluate(darker, images, config), floor(images, config)
    assert wrong["refitted_ipm"] > 0.5 and abs(right["refitted_ipm"]) < 0.2 * wrong["refitted_ipm"]
    assert wrong["auc_boosting"] > right["auc_boosting"] + 0.2


def test_too_few_points_have_no_such_metrics() -> None:
    few = Dataset("few", torch.randn(30, 2), torch.randn(21, 2), torch.zeros(2), 1.0)
    row = floor(few, EvaluationConfig(w1_samples=5, seeds=(0,)))
    assert row["num_samples"] == 7
    assert row["auc_boosting"] is row["auc_neighbours"] is row["refitted_ipm"] is None


def test_wrong_critics_and_steps_are_refused(images: Dataset) -> None:
    with pytest.raises(ValueError, match="no body 'unet'"):
        floor(images, replace(IMAGES, refit_body="unet"))
    with pytest.raises(ValueError, match="refit_steps must be an integer >= 1; received 0"):
        replace(IMAGES, refit_steps=0)
