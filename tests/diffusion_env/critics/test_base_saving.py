"""A critic that a user writes can be saved and loaded, without a word about its configuration."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.critics import CRITICS, Critic, load_critic, make_critic
from tests.support import measured_only

X = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


class Small(Critic):
    """A network of points, with a keyword that is no default."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, width: int = 4) -> None:
        super().__init__(shape)
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(2, width), nn.Linear(width, 1))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.net(x).squeeze(-1)
        return scores

    update = measured_only


class Guided(Small):
    """Made with an object."""

    def __init__(self, shape: tuple[int, ...], guide: nn.Module) -> None:
        super().__init__(shape)
        self.guide = guide


def test_a_critic_without_a_config_is_saved_with_its_keywords(tmp_path: Path) -> None:
    critic = Small((2,), width=7)
    assert critic.name == "Small" and critic.config == {"shape": [2], "seed": 0, "width": 7}
    nn.init.normal_(critic.net[0].weight)  # type: ignore[arg-type]  # a Linear's weight
    loaded = load_critic(critic.save(tmp_path / "small"), critics=[Small])
    assert isinstance(loaded, Small)
    assert torch.equal(loaded(X), critic(X)) and not torch.equal(loaded(X), Small((2,), width=7)(X))


def test_a_class_that_nobody_gives_is_not_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Small((2,)).save(tmp_path / "small")
    with pytest.raises(CheckpointError, match=r"holds a critic 'Small'.*critics=\[YourCritic\]"):
        load_critic(path)
    monkeypatch.setitem(CRITICS, "Small", Small)
    assert make_critic(path, (2,)).shape == (2,)


def test_a_critic_made_with_an_object_says_why_it_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"'Guided' cannot be saved.*\['guide'\] hold objects.*set self.config"):
        Guided((2,), nn.Linear(1, 1)).save(tmp_path / "guided")
    assert not list(tmp_path.iterdir())
