"""Rewards that do not learn."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_env.critics import (
    FrozenCritic,
    make_critic,
)


def test_reward_function_with_a_wrong_score_shape(check_paragraph: Callable[..., Any]) -> None:
    with pytest.raises(ValueError) as error:
        make_critic(lambda x: x, (2,))(torch.zeros(4, 2))
    check_paragraph(error, "(4, 2)", "(4,)")


def test_reward_function_cannot_be_saved(check_paragraph: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(TypeError) as error:
        FrozenCritic(torch.sum).save(tmp_path / "reward")
    check_paragraph(error, "cannot be saved")
    assert not list(tmp_path.iterdir())


def test_frozen_critic_of_a_function(gaussians: Callable[..., Any]) -> None:
    critic = make_critic(lambda x: x[..., 0], (2,))
    real, fake = gaussians(0)
    metrics = critic.update(real, fake, penalty=lambda scores: scores.mean())
    assert metrics["ipm"] == critic.distance(real, fake) == pytest.approx(2.0, abs=0.4)
    assert critic.lipschitz(real) == 1.0
    assert math.isnan(FrozenCritic(lambda x: x[..., 0].detach()).lipschitz(real))


@pytest.mark.parametrize("name", ["energy", "spectral_norm", "mmd"])
def test_frozen_critic_of_a_path_never_moves(
    train_on_gaussians: Callable[..., Any], gaussians: Callable[..., Any], name: str, tmp_path: Path
) -> None:
    trained = train_on_gaussians(make_critic(name, (2,)), 3)
    path = trained.save(tmp_path / "reward")
    x = gaussians(5)[0]
    for spelling in (path, str(path), f"frozen:{path}", f"frozen:{tmp_path / 'reward'}"):
        frozen = make_critic(spelling, (2,))
        assert isinstance(frozen, FrozenCritic)
        train_on_gaussians(frozen, 3)
        assert torch.equal(frozen(x), trained(x))
    again = make_critic(frozen.save(tmp_path / "again"), (2,))
    assert isinstance(again, FrozenCritic) and not isinstance(again.function, FrozenCritic)
    assert torch.equal(again(x), trained(x))
    train_on_gaussians(trained, 1)
    assert not torch.equal(again(x), trained(x))
