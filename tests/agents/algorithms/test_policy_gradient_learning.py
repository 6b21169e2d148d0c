"""SFT-PG solves a task that it can be told apart from, stays there, and does not where it must not.

The task: the sampler starts as the exact sampler of N(0, I), the data are N((1, -0.5), 0.25 I).
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from diffusion_env.critics import EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.evaluation.metrics import sliced_wasserstein
from tests.support import nearness

MakeAgent = Callable[..., SFTPG]
CONFIG = PolicyGradientConfig(
    n_critic=2, learning_rate=1e-3, critic_learning_rate=2e-3, lr_schedule="constant", value_width=32, ema_decay=0.9
)
FASTER = replace(CONFIG, learning_rate=3e-3)  # safe where the reward stands still
NUM_ENVS, NUM_STEPS = 64, 5
SOLVED, STAYS = 0.25, 0.15  # sliced Wasserstein-2; untouched about 0.8, fresh data 0.02
SOLVING_ITERATIONS = 120


@pytest.fixture
def learner(make_agent: MakeAgent, standard_normal: EpsMLP) -> MakeAgent:
    def make(config: PolicyGradientConfig = CONFIG, seed: int = 0, **env_kwargs: object) -> SFTPG:
        critic = env_kwargs.pop("critic", EnergyCritic((2,), seed, gamma=1.0, width=64))
        return make_agent(config, NUM_STEPS, NUM_ENVS, seed, critic, denoiser=standard_normal, **env_kwargs)

    return make


def train(agent: SFTPG, iterations: int) -> SFTPG:
    return agent.learn(iterations * agent.config.n_critic * NUM_ENVS * NUM_STEPS, reset_num_timesteps=False)


def distance(agent: SFTPG, data: Dataset) -> float:
    samples = agent.sample(5_000, seed=99)
    return sliced_wasserstein(samples, data.held_out[:], torch.Generator().manual_seed(0), 50)


def test_it_solves_the_task_and_stays_solved(learner: MakeAgent, gaussian: Dataset) -> None:
    agent = learner()
    assert distance(agent, gaussian) > 0.7
    train(agent, SOLVING_ITERATIONS)
    assert distance(agent, gaussian) < SOLVED
    for _ in range(3):
        train(agent, SOLVING_ITERATIONS)
        assert distance(agent, gaussian) < STAYS


def test_negative_control_without_a_step_size_nothing_is_learned(learner: MakeAgent, gaussian: Dataset) -> None:
    agent = learner(replace(CONFIG, learning_rate=0))
    before = agent.sample(100, seed=0)
    train(agent, 20)
    assert torch.equal(agent.sample(100, seed=0), before)
    assert distance(agent, gaussian) > 0.7


def reward_of(agent: SFTPG) -> float:
    return float(nearness(agent.sample(5_000, seed=99)).mean())


def test_a_fixed_reward_rises_and_its_opposite_falls(learner: MakeAgent, gaussian: Dataset) -> None:
    towards, away = learner(FASTER, critic=nearness), learner(FASTER, critic=lambda x: -nearness(x))
    start, start_distance = reward_of(towards), distance(towards, gaussian)
    assert reward_of(away) == start
    train(towards, 60), train(away, 60)
    assert reward_of(towards) > start + 0.4
    assert distance(towards, gaussian) < start_distance - 0.2
    assert reward_of(away) < start - 0.4
    assert distance(away, gaussian) > start_distance + 0.2


def test_a_frozen_critic_s_score_rises_and_the_critic_stays(learner: MakeAgent, gaussian: Dataset) -> None:
    critic = EnergyCritic((2,), gamma=1.0, width=64)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        critic.update(gaussian.sample(128, generator), torch.randn(128, 2, generator=generator))
    weights = [w.clone() for w in critic.parameters()]
    agent = learner(FASTER, critic=critic, train_critic=False)

    def score() -> float:
        with torch.no_grad():
            return float(critic(agent.sample(5_000, seed=99)).mean())

    before = score()
    train(agent, 60)
    assert score() > before + 0.2
    assert all(torch.equal(w, old) for w, old in zip(critic.parameters(), weights, strict=True))
