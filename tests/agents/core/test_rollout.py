"""Trajectories: the evaluation sampler's law, a ratio of one, no autograd graph."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.algorithms.policy_gradient import SFTPG
from agents.core.policy import all_steps
from agents.core.rollout import Trajectories, collect, concatenated
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import walk
from tests.support import normal

MakeAgent = Callable[..., SFTPG]


def go_on(ended: bool, reward: Tensor) -> bool:
    return True


def rollout(agent: SFTPG, seed: int = 5) -> tuple[Tensor, Trajectories, Tensor]:
    """The start, the trajectories from it with noise of ``seed``, and the next start."""
    start = agent.envs.reset(seed=0)[0]["x"]
    trajectories, following = collect(agent.envs, agent.policy, start, torch.Generator().manual_seed(seed), go_on)
    assert trajectories is not None
    return start, trajectories, following


@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_training_walks_as_evaluation_does(make_agent: MakeAgent, num_steps: int) -> None:
    agent = make_agent(num_steps=num_steps)
    start, trajectories, _ = rollout(agent)
    with torch.no_grad():
        states = torch.stack(list(walk(agent.envs.table, agent.policy.net, start, torch.Generator().manual_seed(5))))
        other = torch.stack(list(walk(agent.envs.table, agent.policy.net, start, torch.Generator().manual_seed(6))))
    assert trajectories.xs.shape == (num_steps + 1, 8, 2)
    assert torch.allclose(trajectories.xs, states, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(trajectories.x0, other[-1], atol=1e-3)  # negative control: other noise


def test_evaluation_uses_the_training_table_and_network(make_agent: MakeAgent) -> None:
    agent = make_agent()
    tables = (agent.sampler.sampling_table, agent.policy.table, agent.sampler.table)
    assert all(table.to_dict() == agent.envs.table.to_dict() for table in tables)
    before = agent.sample(100, seed=0)
    with torch.no_grad():
        for weight in agent.average.parameters():
            weight.add_(0.1)
    assert not torch.allclose(agent.sample(100, seed=0), before, atol=1e-3)


@pytest.mark.parametrize("num_steps", [1, 2, 10])
def test_the_ratio_is_one_before_an_update(make_agent: MakeAgent, num_steps: int) -> None:
    agent = make_agent(num_steps=num_steps)
    _, trajectories, _ = rollout(agent)
    steps = all_steps(num_steps, agent.device)

    def ratio() -> Tensor:
        with torch.no_grad():
            now = agent.policy(trajectories.xs[:-1], steps).log_prob(trajectories.xs[1:])
        return (now - trajectories.scored).exp()

    assert trajectories.scored.shape == (num_steps, 8)
    assert torch.allclose(ratio(), torch.ones(num_steps, 8), rtol=0, atol=1e-3)
    with torch.no_grad():
        for weight in agent.policy.parameters():
            weight.mul_(1.05)
    assert (ratio() - 1).abs().max() > 0.01  # negative control: the policy moved


def test_a_rollout_carries_no_graph(make_agent: MakeAgent) -> None:
    agent = make_agent()
    _, trajectories, following = rollout(agent)
    for tensor in (trajectories.xs, trajectories.scored, trajectories.x0, following):
        assert tensor.grad_fn is None and not tensor.requires_grad and not tensor.is_inference()
    law = agent.policy(trajectories.xs[0], 0)
    assert law.log_prob(trajectories.xs[1]).grad_fn is not None  # negative control: the policy itself makes one


def test_the_terminal_state_is_the_sample_and_the_next_start_is_fresh(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent(critic=lambda x: x[..., 0])
    start = agent.envs.reset(seed=0)[0]["x"]
    seen: list[tuple[Tensor, dict[str, Any]]] = []
    step = agent.envs.step

    def spy(action: Tensor) -> Any:
        result = step(action)
        seen.append((result[1], result[4]))
        return result

    monkeypatch.setattr(agent.envs, "step", spy)
    trajectories, following = collect(agent.envs, agent.policy, start, torch.Generator().manual_seed(5), go_on)
    assert trajectories is not None
    reward, infos = seen[-1]
    assert torch.equal(trajectories.x0, infos["final_obs"]["x"])
    assert torch.allclose(reward, trajectories.x0[:, 0] - infos["final_info"]["data_score"])
    assert not torch.equal(following, trajectories.x0)
    assert torch.equal(following, agent.envs.process.x)


def test_saying_stop_ends_the_rollout_at_once(make_agent: MakeAgent) -> None:
    agent = make_agent(num_steps=4)

    def calls(limit: int) -> tuple[Trajectories | None, list[bool]]:
        ended: list[bool] = []

        def on_step(now: bool, reward: Tensor) -> bool:
            ended.append(now)
            return len(ended) < limit

        start = agent.envs.reset(seed=0)[0]["x"]
        return collect(agent.envs, agent.policy, start, agent.generator, on_step)[0], ended

    assert calls(limit=2) == (None, [False, False])
    trajectories, ended = calls(limit=5)
    assert trajectories is not None and ended == [False, False, False, True]


def test_the_pretrained_network_is_sampled_before_any_training(make_agent: MakeAgent) -> None:
    pretrained = EpsMLP((2,), make_schedule("cosine", 100), width=16, depth=2)
    agent = make_agent(denoiser=pretrained)
    start, trajectories, _ = rollout(agent)
    with torch.no_grad():
        states = list(walk(agent.envs.table, pretrained, start, torch.Generator().manual_seed(5)))
    assert torch.allclose(trajectories.x0, states[-1], rtol=1e-4, atol=1e-5)


def test_an_error_of_the_reward_function_is_not_taken_for_a_policy_that_diverged(make_agent: MakeAgent) -> None:
    def refusing(x: Tensor) -> Tensor:
        raise ValueError("of the user's own")

    agent = make_agent(critic=refusing)
    with pytest.raises(ValueError, match=r"^of the user's own$"):
        rollout(agent)
    for weight in agent.policy.parameters():
        weight.data.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="The policy's own action at step 0 was refused"):
        rollout(agent)


def test_agents_take_no_flat_observations(make_agent: MakeAgent) -> None:
    with pytest.raises(ValueError, match="An agent reads x and step; received observation='flat'"):
        make_agent(observation="flat")


@pytest.mark.parametrize(("count", "sizes"), [(64, [64]), (128, [128]), (300, [150, 150]), (1024, [128] * 8)])
def test_parts_hold_every_trajectory_once(count: int, sizes: list[int]) -> None:
    whole = Trajectories(normal(4, count, 2), normal(3, count, seed=1))
    parts = whole.parts()
    assert [part.x0.shape[0] for part in parts] == sizes
    again = concatenated(parts)
    assert torch.equal(again.xs, whole.xs) and torch.equal(again.scored, whole.scored)
    assert all(part.log_prob is None for part in Trajectories(whole.xs, None).parts())
