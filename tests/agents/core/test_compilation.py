"""Compiled networks: what is compiled, and that names and numbers stay as they are.

torch.compile takes the backend "eager" here, which traces as any other and calls no compiler.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from agents.algorithms.policy_gradient import SFTPG
from agents.core.compilation import compile_forward
from agents.core.config import AgentConfig
from diffusion_env.critics import EnergyCritic, make_critic
from tests.support import normal, same, small_network


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The modules that are compiled from now on."""
    found: list[nn.Module] = []
    whole = torch.compile

    def watched(call: Any) -> Any:
        found.append(call.__self__)
        return whole(call, backend="eager")

    monkeypatch.setattr(torch, "compile", watched)
    return found


def test_a_network_says_what_of_it_is_compiled(compiled: list[nn.Module]) -> None:
    sampler, value = small_network(), nn.Linear(2, 1)
    energy, twice, fixed = (make_critic(name, (2,)) for name in ("energy", "gradient_penalty", "mmd"))
    compile_forward(sampler, value, energy, twice, fixed)  # a penalty on a gradient has a second derivative
    assert compiled == [sampler.net, value, energy.network]


def test_a_compiled_critic_takes_a_slope_penalty() -> None:
    plain, fast = (EnergyCritic((2,), width=4, slope_penalty=0.5) for _ in range(2))
    fast.network.compile(backend="aot_eager")  # whose gradients have none of their own, as those of compiled code
    real, fake = normal(8, 2), normal(8, 2, seed=1)
    assert fast.update(real, fake) == pytest.approx(plain.update(real, fake), rel=1e-4)


def test_training_with_compiled_networks(
    compiled: list[nn.Module],
    small_config: Callable[..., AgentConfig],
    small_kwargs: dict[str, object],
    tmp_path: Path,
) -> None:
    plain, fast = (
        SFTPG(
            config=small_config("sft_pg", compile=flag, n_critic=1), num_envs=8, env_kwargs=small_kwargs, seed=0
        ).learn(1)
        for flag in (False, True)
    )
    assert len(compiled) == 3
    weights = [list(agent.policy.state_dict().values()) for agent in (plain, fast)]
    assert same(*weights)
    assert list(fast.policy.state_dict()) == list(plain.policy.state_dict())
    loaded = SFTPG.load(fast.save(tmp_path / "agent"), trust_paths=True)
    assert loaded.config.compile and torch.equal(loaded.sample(5, seed=0), fast.sample(5, seed=0))
    loaded = SFTPG.load(tmp_path / "agent", trust_paths=True, compile=False)
    assert torch.equal(loaded.sample(5, seed=0), plain.sample(5, seed=0))
