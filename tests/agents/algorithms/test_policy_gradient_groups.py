"""Trajectories that share x[0]; who trains V; what the KL to the pretrained sampler holds on to."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agents.algorithms.presets import AGENTS
from agents.core.config import AgentConfig

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]


def shared(x: Tensor) -> Tensor:
    """(B, B): which trajectories have the same state."""
    return (x.unsqueeze(0) == x.unsqueeze(1)).all(-1)


@pytest.mark.parametrize("group_size", [2, 4, 8])
def test_a_group_shares_its_start_and_nothing_else(
    make_agent: MakeAgent, small_config: SmallConfig, group_size: int
) -> None:
    agent = make_agent(small_config("grpo", group_size=group_size), algo="grpo").learn(1)
    first, second = agent.rollout(), agent.rollout()
    blocks = torch.block_diag(*[torch.ones(group_size, group_size)] * (8 // group_size)).bool()
    for rollout in (first, second):
        assert torch.equal(shared(rollout.xs[0]), blocks)
        assert torch.equal(shared(rollout.xs[1]), torch.eye(8).bool())
    assert not shared(torch.cat([first.xs[0], second.xs[0]]))[:8, 8:].any()


def test_negative_control_without_groups_no_two_trajectories_share_a_start(make_agent: MakeAgent) -> None:
    agent = make_agent().learn(1)
    assert torch.equal(shared(agent.rollout().xs[0]), torch.eye(8).bool())


def test_shared_starts_follow_the_law_of_noise(make_agent: MakeAgent, small_config: SmallConfig) -> None:
    agent = make_agent(small_config("grpo"), algo="grpo", num_envs=16_000)
    x = agent.start()
    assert x.mean(0).abs().max() < 4 / (4_000**0.5)
    assert torch.allclose(x.T.cov(), torch.eye(2), atol=0.1)
    assert torch.equal(x, agent.envs.process.x)  # the environments stand there


@pytest.mark.parametrize("algo", ["grpo", "sft_pg"])
def test_groups_must_fill_the_environments(make_agent: MakeAgent, small_config: SmallConfig, algo: str) -> None:
    with pytest.raises(ValueError, match=r"must be a multiple of group_size = 3; received num_envs = 8"):
        make_agent(small_config(algo, group_size=3), algo=algo)


def test_the_group_s_advantage_compares_trajectories_of_one_start(
    make_agent: MakeAgent, small_config: SmallConfig
) -> None:
    config = small_config("grpo", advantage_normalization="none")
    agent = make_agent(config, algo="grpo", critic=lambda x: x[..., 0]).learn(1)
    batch = agent.rollout()
    scores = batch.x0[:, 0].view(2, 4)
    expected = (scores - scores.mean(1, keepdim=True)).flatten().expand(3, 8)
    assert torch.allclose(agent.advantages(batch), expected, atol=1e-6)


# --- who trains V ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("critic", ["energy", "baseline"])
def test_v_is_trained_where_something_asks_for_it(make_agent: MakeAgent, algo: str, critic: str) -> None:
    agent = make_agent(algo=algo, critic=critic)
    before = [w.detach().clone() for w in agent.value.parameters()]
    agent.learn(1)
    moved = any(not torch.equal(w, old) for w, old in zip(agent.value.parameters(), before, strict=True))
    assert moved is (algo in ("sft_pg", "dpok", "dxdp") or critic == "baseline")


@pytest.mark.parametrize("baseline", ["none", "value", "group"])
def test_the_baseline_decides_whatever_the_name(
    make_agent: MakeAgent, small_config: SmallConfig, baseline: str
) -> None:
    agent = make_agent(small_config("ddpo", baseline=baseline, group_size=4), algo="ddpo")
    assert agent.uses_value is (baseline == "value")


# --- KL to the pretrained sampler ------------------------------------------------------------------------------------


def to_the_right(x: Tensor) -> Tensor:
    return x[..., 0]


@pytest.mark.parametrize("algo", ["sft_pg", "ddpo", "dxdp", "pathwise"])
def test_a_large_kl_coef_holds_the_sampler_where_it_was(
    make_agent: MakeAgent, small_config: SmallConfig, algo: str
) -> None:
    def trained(kl_coef: float) -> tuple[float, Tensor]:
        config = small_config(algo, kl_coef=kl_coef, learning_rate=3e-3, n_generator=1, n_critic=1, ema_decay=0)
        agent = make_agent(config, algo=algo, critic=to_the_right, num_envs=32)
        before = agent.sample(500, seed=0)
        agent.learn(30 * 3 * 32)
        return agent.diagnostics()["train/kl_to_pretrained"], (agent.sample(500, seed=0) - before)[:, 0].mean()

    (free, moved), (held, stayed) = trained(0.0), trained(1e4)
    assert held < 0.01 * free
    assert moved > 0.1 and abs(stayed) < 0.1 * moved
