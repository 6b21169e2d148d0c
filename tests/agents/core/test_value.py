"""The value function: one number per state and step, on points and on images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from agents import SFTPG
from agents.algorithms.config import PolicyGradientConfig
from agents.core.value import ValueNet
from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from tests.support import has_convolutions

CASES: list[tuple[tuple[int, ...], str | None, bool]] = [
    ((2,), None, False),
    ((1, 8, 8), None, True),
    ((1, 8, 8), "mlp", False),
    ((3, 16, 16), "conv", True),
]


def digits_agent(critic: str, value_body: str | None = None) -> SFTPG:
    """SFT-PG on 8 x 8 digits with small networks."""
    denoiser = EpsMLP((1, 8, 8), make_schedule("cosine", 50), width=16, depth=1)
    task: dict[str, Any] = {"dataset": load_dataset("digits"), "denoiser": denoiser, "num_steps": 2, "critic": critic}
    task |= {"critic_kwargs": {"width": 16, "depth": 1}}
    config = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1, value_body=value_body)
    return SFTPG(config=config, num_envs=16, env_kwargs=task, seed=0)


@pytest.mark.parametrize(("shape", "body", "convolves"), CASES)
def test_values_of_trajectories(shape: tuple[int, ...], body: str | None, convolves: bool) -> None:
    value = ValueNet(shape, 3, 16, 2, torch.Generator().manual_seed(0), body)
    assert has_convolutions(value) is convolves
    x, steps = torch.randn(3, 5, *shape), torch.arange(3).unsqueeze(1)
    values = value(x, steps)
    assert values.shape == (3, 5)
    for k in range(3):
        torch.testing.assert_close(value(x[k], torch.tensor(k)), values[k])
    torch.testing.assert_close(value(x[1], torch.full((5,), 1)), values[1])
    assert not torch.allclose(value(x[1], torch.tensor(2)), values[1])


@pytest.mark.parametrize(("shape", "body"), [((2,), None), ((1, 8, 8), None)])
def test_it_learns_what_depends_on_the_step(shape: tuple[int, ...], body: str | None) -> None:
    """Target: the mean of x, of another sign at each step; a value function blind to the step could not fit it."""
    value = ValueNet(shape, 2, 32, 1, torch.Generator().manual_seed(0), body)
    optimizer = torch.optim.Adam(value.parameters(), 1e-2)
    draws, steps = torch.Generator().manual_seed(1), torch.tensor([[0], [1]])
    for _ in range(150):
        x = torch.randn(2, 64, *shape, generator=draws)
        target = x.flatten(2).mean(-1) * torch.tensor([[1.0], [-1.0]])
        loss = (value(x, steps) - target).square().mean() / target.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.2  # 1 where V is 0


@pytest.mark.parametrize(("body", "convolves"), [(None, True), ("conv", True), ("mlp", False)])
def test_the_configuration_names_the_body_and_a_saved_agent_keeps_it(
    body: str | None, convolves: bool, tmp_path: Path
) -> None:
    agent = digits_agent(critic="energy", value_body=body)
    assert has_convolutions(agent.value) is convolves
    loaded = SFTPG.load(agent.save(tmp_path / "agent"), env_kwargs=agent.env_kwargs)
    assert has_convolutions(loaded.value) is convolves and loaded.config.value_body == body


def test_a_body_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no body 'cnov'.*'conv', 'mlp'"):
        digits_agent(critic="energy", value_body="cnov")


@pytest.mark.parametrize("critic", ["energy", "baseline", "spectral_norm"])
def test_digits_train_with_convolutions(critic: str) -> None:
    """Two iterations of SFT-PG with the bodies that the shape chooses; everything is finite and every weight moves."""
    agent = digits_agent(critic)
    assert isinstance(agent.envs.critic, TrainedCritic)
    assert has_convolutions(agent.envs.critic) and has_convolutions(agent.value)
    learners = [*agent.envs.critic.network.named_parameters(), *agent.value.named_parameters()]
    before = [weight.clone() for _, weight in learners]
    agent.learn(2 * agent.config.n_critic * 16 * 2)
    moved = {name for (name, weight), old in zip(learners, before, strict=True) if not torch.equal(weight, old)}
    still = {name for name, _ in learners} - moved
    assert len(still) <= 1 and all(name.endswith("bias") for name in still)  # W1 critics do not feel their last bias
    assert all(weight.isfinite().all() for _, weight in learners)
    assert agent.sample(4).isfinite().all() and agent.iteration == 2
