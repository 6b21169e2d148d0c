"""The body of the held-out critic: by shape unless named, on points as it always was."""

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import nn

from diffusion_env.config import EvaluationConfig
from diffusion_env.critics import CRITICS, GradientPenaltyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import evaluate, floor

CONFIG = EvaluationConfig(
    num_samples=300, w1_samples=50, num_projections=5, seeds=(0,), held_out_critic=True, critic_steps=3
)


@pytest.fixture(scope="module")
def images() -> Dataset:
    points = torch.randn(2_000, 1, 8, 8, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    return Dataset("images", points[:1_000], points[1_000:], torch.zeros(1, 8, 8), 1.0)


def bodies_made(data: Dataset, config: EvaluationConfig) -> list[str]:
    """The bodies of the critics that an evaluation makes."""
    made = []

    class Watched(GradientPenaltyCritic):
        def build_network(self, generator: torch.Generator) -> nn.Module:
            made.append(self.body)
            return super().build_network(generator)

    with patch.dict(CRITICS, gradient_penalty=Watched):
        floor(data, config)
    return made


def test_the_shape_chooses_unless_a_body_is_named(images: Dataset) -> None:
    assert bodies_made(images, CONFIG) == ["conv"]
    assert bodies_made(images, replace(CONFIG, held_out_body="mlp")) == ["mlp"]


def test_it_sees_what_is_wrong_with_images(images: Dataset) -> None:
    config = replace(CONFIG, critic_steps=60)

    def darker(n: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(n, 1, 8, 8, generator=generator).clamp(-1, 1) - 0.5

    wrong, right = evaluate(darker, images, config)["held_out_critic"], floor(images, config)["held_out_critic"]
    assert wrong > 0.5 and abs(right) < 0.2 * wrong


def test_unknown_bodies_are_refused(images: Dataset) -> None:
    with pytest.raises(ValueError, match="no body 'unet'"):
        floor(images, replace(CONFIG, held_out_body="unet"))
