"""predict, sample and evaluate."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import EvaluationConfig

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


def test_predict_for_one_and_for_many(make_agent: MakeAgent) -> None:
    agent = make_agent()
    x, step = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32), np.array([0, 1, 2, 1, 0])
    many, state = agent.predict({"x": x, "step": step}, deterministic=True)
    assert many.shape == (5, 2) and many.dtype == np.float32 and state is None
    for i in range(5):
        one, _ = agent.predict({"x": x[i], "step": np.int64(step[i])}, deterministic=True)
        assert one.shape == (2,)
        np.testing.assert_allclose(one, many[i], rtol=1e-4, atol=1e-5)


def test_predict_draws_around_its_deterministic_answer(make_agent: MakeAgent) -> None:
    agent = make_agent()
    observation = {"x": np.zeros((20_000, 2), np.float32), "step": np.ones(20_000, np.int64)}
    mean, _ = agent.predict(observation, deterministic=True)
    drawn, again = (agent.predict(observation)[0] for _ in range(2))
    row = agent.envs.table.rows(1, 1)
    assert np.ptp(mean, axis=0).max() == 0 and not np.array_equal(drawn, again)
    np.testing.assert_allclose(drawn.mean(0), mean[0], atol=0.03)
    np.testing.assert_allclose(drawn.std(0), float(row.std / row.action_scale), rtol=0.03)


def test_predict_walks_the_environment_to_the_sampler_s_samples(make_agent: MakeAgent) -> None:
    agent = make_agent(num_steps=4)
    kwargs = {key: agent.env_kwargs[key] for key in ("dataset", "denoiser", "critic", "num_steps")}
    env = gym.make("DDPMShortcut-v0", train_critic=False, **kwargs)
    observation, _ = env.reset(seed=0)
    x, done = torch.as_tensor(observation["x"]), False
    while not done:
        action, _ = agent.predict(observation, deterministic=True)
        observation, _, done, _, _ = env.step(action)
    with torch.no_grad():
        for k in range(4):
            x = agent.sampler(x, k).mean
    np.testing.assert_allclose(observation["x"], x.numpy(), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"A finished sample \(step 4\) has no next action"):
        agent.predict(observation)
    with pytest.raises(ValueError, match="finished sample"):
        agent.predict({"x": np.zeros((2, 2), np.float32), "step": np.array([0, 4])})


def test_samples_have_a_seed_and_data_units(make_agent: MakeAgent, gaussian: Dataset) -> None:
    shifted = replace(gaussian, center=torch.tensor([10.0, 20.0]), scale=3.0)
    plain, moved = make_agent(), make_agent(dataset=shifted)
    assert plain.sample(7).shape == (7, 2)
    assert torch.equal(plain.sample(7, seed=1), plain.sample(7, seed=1))
    assert not torch.equal(plain.sample(7, seed=1), plain.sample(7, seed=2))
    assert not torch.equal(plain.sample(7), plain.sample(7))
    expected = 3 * plain.sample(7, seed=1) + torch.tensor([10.0, 20.0])
    assert torch.allclose(moved.sample(7, seed=1), expected, rtol=1e-5)


def test_samples_follow_the_agent_s_seed(make_agent: MakeAgent) -> None:
    one, same, other = (make_agent(seed=seed).learn(ITERATION).sample(7) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_evaluate_measures_the_sampler(make_agent: MakeAgent, small_kwargs: dict[str, Any]) -> None:
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=small_kwargs, seed=0)
    config = EvaluationConfig(100, w1_samples=50, support_points=100, seeds=(0, 1), refit_steps=5)
    row = agent.evaluate(config)
    assert row == agent.evaluate(config) and row["sw2_low"] < row["sw2_mean"] < row["sw2_high"]
    with torch.no_grad():
        for weight in agent.average.parameters():
            weight.mul_(3)
    assert agent.evaluate(config)["sw2_mean"] > 2 * row["sw2_mean"]
