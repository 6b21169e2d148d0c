"""The page of the critics runs, and the critic it shows does what it says."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import gymnasium as gym
import pytest
import torch

import diffusion_env.critics
from diffusion_env.critics import CRITICS, load_critic
from tests.support import files_beside, files_on_the_map

README = Path(diffusion_env.critics.__file__).parent / "README.md"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's blocks define."""
    found: dict[str, Any] = {}
    with patch.dict(CRITICS):
        for i, block in enumerate(re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)):
            exec(compile(block, f"README block {i}", "exec"), found)
    return found


def test_keywords_reach_the_critics(names: dict[str, Any]) -> None:
    assert names["envs"].critic.config["width"] == 64 and names["envs"].critic.config["body"] == "conv"
    assert isinstance(names["env"], gym.Env)


def test_the_shown_critic_tells_apart_within_its_bound(names: dict[str, Any], tmp_path: Path) -> None:
    bounded = names["BoundedCritic"]
    critic = names["env"].unwrapped.critic
    assert isinstance(critic, bounded) and critic.weight == 5.0
    draws = torch.Generator().manual_seed(0)
    for one, limit in ((critic, 2.3), (bounded((2,), weight=0.0), float("inf"))):
        for _ in range(150):
            one.update(torch.randn(128, 2, generator=draws) + 2, torch.randn(128, 2, generator=draws))
        gap = one.distance(torch.randn(2_000, 2, generator=draws) + 2, torch.randn(2_000, 2, generator=draws))
        assert 1.0 < gap < limit
    assert gap > 5  # without the regulariser
    with patch.dict(CRITICS, bounded=bounded):
        again = load_critic(critic.save(tmp_path / "own"))
    assert again.config == critic.config and torch.equal(again(torch.ones(3, 2)), critic(torch.ones(3, 2)))


def test_every_file_is_on_the_map_but_for_those_of_named_critics_that_are_added() -> None:
    """The map explains the named critics that it holds; a further one is found through `CRITICS`."""
    named = {f"{kind.__module__.rpartition('.')[2]}.py" for kind in CRITICS.values()}
    assert files_beside(README) - named <= files_on_the_map(README) <= files_beside(README)
    assert len(named & files_on_the_map(README)) > 3
