"""A number that is not finite stops the run, by name, and the state is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.policy_gradient import SFTPG
from diffusion_env.critics import FrozenCritic

MakeAgent = Callable[..., SFTPG]
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


def fill(module: nn.Module, value: float = float("nan")) -> None:
    with torch.no_grad():
        for weight in module.parameters():
            weight.fill_(value)


def spoil_gradient(agent: SFTPG) -> None:
    next(agent.policy.parameters()).register_hook(lambda gradient: gradient * float("inf"))


def frozen_nan(x: Tensor) -> Tensor:
    return x[..., 0] * float("nan")


CULPRITS: dict[str, tuple[Callable[[SFTPG], None], str, Any]] = {
    "policy": (lambda agent: fill(agent.policy), "The policy's own action at step 0", None),
    "policy gradient": (spoil_gradient, "policy_grad_norm became", None),
    "value": (lambda agent: fill(agent.value), "value_loss became nan in iteration 1", None),
    "critic": (lambda agent: fill(agent.critic), "The critic 'energy' gave NaN or infinity", None),
    "reward": (
        lambda agent: None,
        "reward function 'frozen_nan' gave NaN or infinity",
        FrozenCritic(frozen_nan, (2,)),
    ),
}


@pytest.mark.parametrize("culprit", CULPRITS)
def test_a_number_that_is_not_finite_stops_the_run_with_its_name(
    make_agent: MakeAgent, tmp_path: Path, culprit: str
) -> None:
    spoil, message, critic = CULPRITS[culprit]
    agent = make_agent(tensorboard_log=tmp_path, critic=critic)
    if critic is None:
        agent.learn(ITERATION)
    spoil(agent)
    with pytest.raises(FloatingPointError, match=rf"(?s){message}.* state at that moment is in .*stopped") as caught:
        agent.learn(ITERATION, reset_num_timesteps=False)
    path = tmp_path / "SFTPG_1" / "stopped.safetensors"
    assert str(path) in str(caught.value)
    loaded = SFTPG.load(path, env_kwargs=agent.env_kwargs)
    if culprit != "policy":
        assert all(weight.isfinite().all() for weight in loaded.policy.parameters())


def test_without_a_folder_nothing_is_saved_and_the_error_says_so(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(ITERATION)
    fill(agent.value)
    with pytest.raises(FloatingPointError, match=r"value_loss became nan .* Nothing was saved: give tensorboard_log"):
        agent.learn(ITERATION)


def test_negative_control_large_but_finite_weights_do_not_stop_the_run(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(ITERATION)
    fill(agent.value, 1.0)
    agent.learn(ITERATION, reset_num_timesteps=False)
