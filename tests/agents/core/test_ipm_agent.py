"""One iteration of algorithm 1: its order, step sizes, average and ratio, on how many transitions."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG, step_advantages, transitions
from agents.algorithms.presets import PRESETS
from agents.core.config import Schedule
from agents.core.learning import prepare
from agents.core.losses import Metrics
from agents.core.rollout import Trajectories, concatenated
from agents.core.sanity import LIMITS
from diffusion_env.critics import Critic, make_critic
from diffusion_env.samplers.law import GaussianStep
from tests.support import policy_step

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)


def started(agent: SFTPG) -> SFTPG:
    """The agent after one iteration: callbacks and logger are in place."""
    return agent.learn(1)


def record_calls(agent: SFTPG, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def spy(name: str) -> None:
        update = getattr(agent, name)

        def recorded(*args: Any, **keywords: Any) -> Any:
            calls.append(name)
            return update(*args, **keywords)

        monkeypatch.setattr(agent, name, recorded)

    for name in ("rollout", "update_critic", "update_value", "update_policy"):
        spy(name)
    return calls


@pytest.mark.parametrize(("n_critic", "n_generator"), [(1, 1), (5, 1), (2, 3)])
def test_the_order_of_algorithm_1(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, n_critic: int, n_generator: int
) -> None:
    agent = make_agent(replace(SMALL, n_critic=n_critic, n_generator=n_generator))
    calls = record_calls(agent, monkeypatch)
    agent.learn(1)
    assert calls == ["rollout", "update_critic", "update_value"] * n_critic + ["update_policy"] * n_generator
    assert agent.num_timesteps == 3 * 8 * n_critic
    assert agent.average.n_averaged == n_generator


def test_the_paper_preset(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(PRESETS["sft_pg_paper"].config, num_envs=128, num_steps=10)
    calls = record_calls(agent, monkeypatch)
    sizes: list[int] = []
    forward = agent.policy.forward

    def spy(x: Tensor, k: int | Tensor) -> GaussianStep:
        sizes.append(x.numel() // 2)
        return forward(x, k)

    monkeypatch.setattr(agent.policy, "forward", spy)
    agent.learn(1)
    assert calls == ["rollout", "update_critic", "update_value"] * 5 + ["update_policy"]
    assert sizes == [128] * 10 * 5 + [128]  # 50 steps of 128 environments, then one minibatch of 128 transitions
    assert agent.policy_optimizer.param_groups[0]["lr"] == 5e-5
    assert agent.value_optimizer.param_groups[0]["lr"] == 1e-3
    for own, average in zip(agent.policy.parameters(), agent.average.parameters(), strict=True):
        assert torch.equal(own, average)  # nothing is averaged


def test_rollouts_in_the_buffer_hold_no_graph(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, seen = make_agent(), list[tuple[Trajectories, Tensor]]()
    update = agent.update_policy

    def spy(batch: Trajectories, advantage: Tensor, first: bool) -> Metrics:
        seen.append((batch, advantage))
        return update(batch, advantage, first)

    monkeypatch.setattr(agent, "update_policy", spy)
    agent.learn(1)
    ((batch, advantage),) = seen
    assert batch.xs.shape == (4, 16, 2) and batch.scored.shape == advantage.shape == (3, 16)  # both rollouts
    assert all(t.grad_fn is None and not t.requires_grad for t in (batch.xs, batch.scored, advantage))
    assert not any(t.requires_grad for t in transitions(agent, batch, advantage))


def test_a_minibatch_is_drawn_from_all_rollouts_without_replacement(make_agent: MakeAgent) -> None:
    agent = started(make_agent(replace(SMALL, minibatch_size=47, gae_lambda=1.0)))
    batch = concatenated([agent.rollout(), agent.rollout()])
    x, x_next, k, advantage, log_prob = transitions(agent, batch, step_advantages(agent, batch))
    assert x.shape == x_next.shape == (47, 2) and k.shape == advantage.shape == log_prob.shape == (47,)
    xs = batch.xs
    with torch.no_grad():
        expected = agent.critic(xs[-1]) - agent.value(xs[:-1], agent.steps)
        assert torch.allclose(agent.policy(x, k).log_prob(x_next), log_prob, atol=1e-3)
    found = [(int(row), (xs[row] == point).all(-1).nonzero().item()) for point, row in zip(x, k, strict=True)]
    assert len(set(found)) == 47  # of 2 * 8 * 3 = 48
    for (row, i), following, a in zip(found, x_next, advantage, strict=True):
        assert torch.equal(xs[row + 1, i], following)
        assert a == pytest.approx(float(expected[row, i]), abs=1e-6)


@pytest.mark.parametrize("size", [None, 48, 1000])
def test_a_minibatch_as_large_as_the_buffer_is_the_whole_buffer(make_agent: MakeAgent, size: int | None) -> None:
    agent = started(make_agent(replace(SMALL, minibatch_size=size)))
    batch = concatenated([agent.rollout(), agent.rollout()])
    x, _, k, advantage, _ = transitions(agent, batch, step_advantages(agent, batch))
    assert x.shape == (3, 16, 2) and k.shape == (3, 1) and advantage.shape == (3, 16)


def learned_with_warnings(agent: SFTPG) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        agent.learn(2 * 48, log_interval=1)
    return [str(w.message) for w in caught if "ratio" in str(w.message)]


@pytest.mark.parametrize("num_steps", [1, 2, 10])
@pytest.mark.parametrize("minibatch_size", [None, 5])
def test_the_ratio_is_one_and_silent(make_agent: MakeAgent, num_steps: int, minibatch_size: int | None) -> None:
    agent = make_agent(replace(SMALL, n_generator=3, learning_rate=1e-2, minibatch_size=minibatch_size), num_steps)
    assert learned_with_warnings(agent) == []
    assert 0 <= float(agent.iterate()["train/ratio_error"]) < 1e-3


def test_negative_control_a_policy_that_changes_after_the_rollout_is_reported(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent()
    rollout = agent.rollout

    def rollout_and_change() -> Trajectories:
        trajectories = rollout()
        with torch.no_grad():
            for weight in agent.policy.parameters():
                weight.mul_(1.05)
        return trajectories

    monkeypatch.setattr(agent, "rollout", rollout_and_change)
    messages = learned_with_warnings(agent)
    assert len(messages) == 1  # it is broken in both iterations, and said once
    assert "train/ratio_error" in messages[0] and "changed the policy between rollout and update" in messages[0]
    assert float(agent.iterate()["train/ratio_error"]) > LIMITS["ratio"].highest


def test_the_average_follows_its_decay_per_policy_step(make_agent: MakeAgent) -> None:
    agent = make_agent(replace(SMALL, n_generator=1, ema_decay=0.75))

    def first(module: nn.Module) -> Tensor:
        return next(module.parameters()).detach().clone()

    started(agent)
    average = first(agent.average)
    assert torch.equal(average, first(agent.policy))  # the first policy step starts the average
    agent.learn(1, reset_num_timesteps=False)
    assert torch.allclose(first(agent.average), 0.75 * average + 0.25 * first(agent.policy), atol=1e-7)
    assert not torch.equal(first(agent.average), first(agent.policy))


@pytest.mark.parametrize(
    ("schedule", "critic_schedule", "last", "last_of_critic"),
    [("linear", None, 0.25, 0.25), ("constant", None, 1.0, 1.0), ("linear", "constant", 0.25, 1.0)],
)
def test_the_step_sizes_follow_their_schedules(
    make_agent: MakeAgent, schedule: Schedule, critic_schedule: Schedule | None, last: float, last_of_critic: float
) -> None:
    critic = make_critic("energy", (2,))
    rates: dict[str, Any] = {"learning_rate": 1e-3, "critic_learning_rate": 1e-3, "std_lr_scale": 30.0}
    config = replace(SMALL, **rates, std="learned", lr_schedule=schedule, critic_lr_schedule=critic_schedule)
    agent = make_agent(config, critic=critic)
    agent.learn(4 * 48)  # four iterations; the last starts with a quarter of the run to go
    network, log_std_ratio = agent.policy_optimizer.param_groups
    assert network["lr"] == pytest.approx(1e-3 * last)
    assert log_std_ratio["params"] == [agent.policy.log_std_ratio]
    assert log_std_ratio["lr"] == pytest.approx(30e-3 * last)
    assert agent.value_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last)
    assert critic.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last_of_critic)  # type: ignore[union-attr, index]


def test_the_gradient_norm_is_reported_as_it_was_and_clipped(make_agent: MakeAgent) -> None:
    agent = started(make_agent(replace(SMALL, max_grad_norm=1e-3)))
    metrics = policy_step(agent, agent.rollout())
    clipped = torch.stack([w.grad.norm() for w in agent.policy.parameters() if w.grad is not None]).norm()
    assert float(metrics["grad_norm"]) > 2e-3
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "critic", ["energy", "gradient_penalty", "spectral_norm", "weight_clipping", "baseline", "mmd"]
)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_every_critic_at_few_steps(make_agent: MakeAgent, critic: str, num_steps: int) -> None:
    agent = make_agent(num_steps=num_steps, critic=critic)
    agent.learn(3 * num_steps * 16, log_interval=1)
    assert agent.sample(5).shape == (5, 2) and agent.sample(5).isfinite().all()
    assert isinstance(agent.critic, Critic) and agent.critic.name == critic


def test_a_single_environment_with_a_single_step_has_finite_metrics(make_agent: MakeAgent) -> None:
    agent = make_agent(replace(SMALL, n_critic=1), num_steps=1, num_envs=1)
    prepare(agent, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = agent.iterate()
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values()), metrics
