"""One iteration of SFT-PG: who is trained by what, in which order, on how many transitions, and what is reported."""

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.config import PolicyGradientConfig, Schedule, describe
from agents.presets import PRESETS
from agents.policy import DenoisingPolicy
from agents.rollout import Trajectories
from agents.sft_pg import MAX_RATIO_ERROR, SFTPG
from diffusion_env.critics import BaselineCritic, Critic, make_critic
from diffusion_env.law import GaussianStep

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)
ALL = {"policy", "value", "critic", "pretrained"}


def modules(agent: SFTPG) -> dict[str, nn.Module]:
    assert isinstance(agent.pretrained, nn.Module)
    return {
        "policy": agent.policy,
        "value": agent.value,
        "critic": agent.envs.critic,
        "pretrained": agent.pretrained,
    }


def moved_by(agent: SFTPG, update: Callable[[], Any]) -> tuple[set[str], set[str]]:
    """Which networks an update moved, and which received a gradient."""
    before = {name: [w.detach().clone() for w in module.parameters()] for name, module in modules(agent).items()}
    for module in modules(agent).values():
        module.zero_grad()
    update()
    moved = {
        name
        for name, module in modules(agent).items()
        if any(not torch.equal(w, old) for w, old in zip(module.parameters(), before[name], strict=True))
    }
    reached = {name for name, module in modules(agent).items() if any(w.grad is not None for w in module.parameters())}
    return moved, reached


def started(agent: SFTPG) -> SFTPG:
    """The agent after one iteration: callbacks and logger are in place."""
    return agent.learn(1)


@pytest.mark.parametrize("critic", ["energy", "gradient_penalty", "baseline"])
def test_every_update_reaches_its_own_network_alone(make_agent: MakeAgent, critic: str) -> None:
    agent = started(make_agent(critic=make_critic(critic, (2,))))
    newest = agent._rollout()
    assert moved_by(agent, lambda: agent._update_value(newest)) == ({"value"}, {"value"})
    assert moved_by(agent, lambda: agent._update_critic(newest)) == ({"critic"}, {"critic"})
    assert moved_by(agent, lambda: agent._update_policy([newest])) == ({"policy"}, {"policy"})
    assert moved_by(agent, lambda: agent._rollout()) == (set(), set())
    assert moved_by(agent, agent.diagnostics) == (set(), set())


@pytest.mark.parametrize("network", ["policy", "value", "critic"])
def test_every_weight_of_the_network_is_reached(make_agent: MakeAgent, network: str) -> None:
    agent = started(make_agent())
    newest = agent._rollout()
    agent._update_critic(newest), agent._update_value(newest), agent._update_policy([newest])
    gradients = {name: w.grad for name, w in modules(agent)[network].named_parameters()}
    assert all(g is not None and float(g.abs().max()) > 0 for g in gradients.values()), gradients


def test_negative_control_a_policy_that_is_not_a_copy_moves_the_pretrained_network(make_agent: MakeAgent) -> None:
    agent = started(make_agent())
    assert isinstance(agent.pretrained, nn.Module)
    agent.policy = DenoisingPolicy(agent.pretrained.requires_grad_(), agent.policy.table)
    agent.policy_optimizer = torch.optim.Adam(agent.policy.parameters())
    assert moved_by(agent, lambda: agent._update_policy([agent._rollout()]))[0] == {"policy", "pretrained"}


def test_the_value_error_reaches_the_baseline_critic_through_its_penalty(make_agent: MakeAgent) -> None:
    agent = started(make_agent(critic=BaselineCritic((2,), width=16)))
    penalty = agent._value_penalty(agent._rollout())
    assert penalty is not None
    scores = torch.linspace(-1, 1, 8).requires_grad_()
    penalty(scores).backward()
    assert scores.grad is not None and float(scores.grad.abs().min()) > 0
    assert make_agent()._value_penalty(agent._rollout()) is None  # the other critics have regularisers of their own


@pytest.mark.parametrize("weight", [0.0, 0.5, 10.0])
def test_value_loss_weight_scales_the_penalty(make_agent: MakeAgent, weight: float) -> None:
    agent = started(make_agent(replace(SMALL, value_loss_weight=weight), critic=BaselineCritic((2,), width=16)))
    newest, scores = agent._rollout(), torch.linspace(-1, 1, 8)
    penalty = agent._value_penalty(newest)
    assert penalty is not None
    with torch.no_grad():
        expected = weight * (agent.value(newest.xs[:-1], agent.rows) - scores).square().mean()
    assert float(penalty(scores)) == pytest.approx(float(expected), rel=1e-6)


def test_rollouts_in_the_buffer_hold_no_graph(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, seen = make_agent(), list[Trajectories]()
    update = agent._update_policy

    def spy(buffer: list[Trajectories]) -> dict[str, Tensor]:
        seen.extend(buffer)
        return update(buffer)

    monkeypatch.setattr(agent, "_update_policy", spy)
    agent.learn(1)
    assert len(seen) == 2
    assert all(t.grad_fn is None and not t.requires_grad for trajectories in seen for t in trajectories)
    x, x_next, k, advantage, log_prob = agent._transitions(seen)
    assert not any(t.requires_grad for t in (x, x_next, k, advantage, log_prob))


def record_calls(agent: SFTPG, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def spy(name: str) -> None:
        update = getattr(agent, name)

        def recorded(*args: Any) -> Any:
            calls.append(name)
            return update(*args)

        monkeypatch.setattr(agent, name, recorded)

    for name in ("_rollout", "_update_critic", "_update_value", "_update_policy"):
        spy(name)
    return calls


@pytest.mark.parametrize(("n_critic", "n_generator"), [(1, 1), (5, 1), (2, 3)])
def test_the_order_of_algorithm_1(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch, n_critic: int, n_generator: int
) -> None:
    agent = make_agent(replace(SMALL, n_critic=n_critic, n_generator=n_generator))
    calls = record_calls(agent, monkeypatch)
    agent.learn(1)
    assert calls == ["_rollout", "_update_critic", "_update_value"] * n_critic + ["_update_policy"] * n_generator
    assert agent.num_timesteps == 3 * 8 * n_critic
    assert agent.average.n_averaged == n_generator


def test_the_paper_preset(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(PRESETS["paper"], num_envs=128, num_steps=10)
    calls = record_calls(agent, monkeypatch)
    sizes: list[int] = []
    forward = agent.policy.forward

    def spy(x: Tensor, k: int | Tensor) -> GaussianStep:
        sizes.append(x.numel() // 2)
        return forward(x, k)

    monkeypatch.setattr(agent.policy, "forward", spy)
    agent.learn(1)
    assert calls == ["_rollout", "_update_critic", "_update_value"] * 5 + ["_update_policy"]
    assert sizes == [128] * 10 * 5 + [128]  # 50 steps of 128 environments, then one minibatch of 128 transitions
    assert agent.policy_optimizer.param_groups[0]["lr"] == 5e-5
    assert agent.value_optimizer.param_groups[0]["lr"] == 1e-3
    for own, average in zip(agent.policy.parameters(), agent.average.parameters(), strict=True):
        assert torch.equal(own, average)  # nothing is averaged


def test_a_minibatch_is_drawn_from_all_rollouts_without_replacement(make_agent: MakeAgent) -> None:
    agent = started(make_agent(replace(SMALL, minibatch_size=47, gae_lambda=1.0)))
    buffer = [agent._rollout(), agent._rollout()]
    x, x_next, k, advantage, log_prob = agent._transitions(buffer)
    assert x.shape == x_next.shape == (47, 2) and k.shape == advantage.shape == log_prob.shape == (47,)
    xs = torch.cat([t.xs for t in buffer], dim=1)
    with torch.no_grad():
        expected = agent.envs.critic(xs[-1]) - agent.value(xs[:-1], agent.rows)
        assert torch.allclose(agent.policy(x, k).log_prob(x_next), log_prob, atol=1e-3)
    found = [(int(row), (xs[row] == point).all(-1).nonzero().item()) for point, row in zip(x, k, strict=True)]
    assert len(set(found)) == 47  # of 2 * 8 * 3 = 48
    for (row, i), following, a in zip(found, x_next, advantage, strict=True):
        assert torch.equal(xs[row + 1, i], following)
        assert a == pytest.approx(float(expected[row, i]), abs=1e-6)


@pytest.mark.parametrize("size", [None, 48, 1000])
def test_a_minibatch_as_large_as_the_buffer_is_the_whole_buffer(make_agent: MakeAgent, size: int | None) -> None:
    agent = started(make_agent(replace(SMALL, minibatch_size=size)))
    x, _, k, advantage, _ = agent._transitions([agent._rollout(), agent._rollout()])
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
    assert 0 <= agent.diagnostics()["train/ratio_error"] < 1e-3


def test_negative_control_a_policy_that_changes_after_the_rollout_is_reported(
    make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = make_agent()
    rollout = agent._rollout

    def rollout_and_change() -> Trajectories:
        trajectories = rollout()
        with torch.no_grad():
            for weight in agent.policy.parameters():
                weight.mul_(1.05)
        return trajectories

    monkeypatch.setattr(agent, "_rollout", rollout_and_change)
    messages = learned_with_warnings(agent)
    assert len(messages) == 2 and "changed the policy between rollout and update" in messages[0]
    with pytest.warns(UserWarning, match="off 1 by"):
        assert agent.diagnostics()["train/ratio_error"] > MAX_RATIO_ERROR


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


@pytest.mark.parametrize(("schedule", "last"), [("linear", 0.25), ("constant", 1.0)])
def test_the_step_sizes_follow_the_schedule(make_agent: MakeAgent, schedule: Schedule, last: float) -> None:
    critic = make_critic("energy", (2,))
    config = replace(SMALL, learning_rate=1e-3, critic_learning_rate=1e-3, lr_schedule=schedule)
    agent = make_agent(config, critic=critic)
    agent.learn(4 * 48)  # four iterations; the last starts with a quarter of the run to go
    assert agent.policy_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last)
    assert agent.value_optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last)
    assert critic.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last)  # type: ignore[union-attr, index]


def test_the_gradient_norm_is_reported_as_it_was_and_clipped(make_agent: MakeAgent) -> None:
    agent = started(make_agent(replace(SMALL, max_grad_norm=1e-3)))
    metrics = agent._update_policy([agent._rollout()])
    clipped = torch.stack([w.grad.norm() for w in agent.policy.parameters() if w.grad is not None]).norm()
    assert float(metrics["grad_norm"]) > 2e-3
    assert float(clipped) == pytest.approx(1e-3, rel=1e-3)


def test_a_critic_that_is_not_trained_stays(make_agent: MakeAgent) -> None:
    frozen, learning = make_agent(train_critic=False), make_agent()
    assert "critic" not in moved_by(frozen, lambda: frozen.learn(48))[0]
    assert "critic" in moved_by(learning, lambda: learning.learn(48))[0]


CRITIC_NAMES = ["energy", "gradient_penalty", "spectral_norm", "weight_clipping", "baseline", "mmd"]


@pytest.mark.parametrize(
    "critic", ["energy", "gradient_penalty", "spectral_norm", "weight_clipping", "baseline", "mmd"]
)
@pytest.mark.parametrize("num_steps", [1, 2])
def test_every_critic_at_one_and_two_steps(make_agent: MakeAgent, critic: str, num_steps: int) -> None:
    agent = make_agent(num_steps=num_steps, critic=critic)
    agent.learn(3 * num_steps * 16, log_interval=1)
    assert agent.sample(5).shape == (5, 2) and agent.sample(5).isfinite().all()
    assert isinstance(agent.envs.critic, Critic) and agent.envs.critic.name == critic


def test_a_single_environment_with_a_single_step_has_finite_metrics(make_agent: MakeAgent) -> None:
    agent = make_agent(replace(SMALL, n_critic=1), num_steps=1, num_envs=1)
    agent._set_up(1, None, None, True, False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = agent.iterate()
    assert all(torch.as_tensor(value).isfinite() for value in metrics.values()), metrics


BAD: dict[str, list[Any]] = {
    "n_critic": [0, -1, 1.5, "5"],
    "n_generator": [0, 2.0],
    "minibatch_size": [0, -128, 12.5],
    "learning_rate": [-1e-3, float("nan"), float("inf")],
    "critic_learning_rate": [-1.0],
    "value_learning_rate": [float("inf")],
    "lr_schedule": ["cosine", None],
    "max_grad_norm": [0, -0.1, float("nan")],
    "gae_lambda": [-0.1, 1.1],
    "adam_beta1": [1.0, -0.1],
    "adam_beta2": [1.0, float("nan")],
    "ema_decay": [1, -0.1, float("nan")],
    "value_loss_weight": [-1],
    "value_width": [0],
    "value_depth": [0],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_hyper_parameters_are_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"PolicyGradientConfig\.{name} must be .*; received {value!r}"):
        PolicyGradientConfig(**{name: value})


def test_every_field_is_checked_frozen_and_described() -> None:
    config = PolicyGradientConfig()
    assert set(BAD) == {field.name for field in fields(config)}
    assert all(f"{field.name} = {getattr(config, field.name)!r}" in describe(config) for field in fields(config))
    with pytest.raises(AttributeError):
        config.n_critic = 3  # type: ignore[misc]
    assert PolicyGradientConfig(learning_rate=0, minibatch_size=1, max_grad_norm=None, ema_decay=0).minibatch_size == 1
