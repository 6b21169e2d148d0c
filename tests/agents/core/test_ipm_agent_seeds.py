"""What an agent draws under one seed has nothing in common with what it draws under another."""

from collections.abc import Callable
from itertools import combinations

import torch

from agents import SFTPG
from agents.core.ipm_agent import IPMAgent


def generators(agent: IPMAgent) -> list[torch.Generator]:
    return [*agent.generators, agent.envs.process.generator]


def first_numbers(agent: IPMAgent) -> list[torch.Tensor]:
    """What each generator draws next, without moving it."""
    copies = [generator.clone_state() for generator in generators(agent)]
    return [torch.randint(2**62, (1_000,), generator=draws) for draws in copies]


def test_no_stream_of_one_seed_is_a_stream_of_another(make_agent: Callable[..., IPMAgent]) -> None:
    drawn = [numbers for seed in range(4) for numbers in first_numbers(make_agent(seed=seed))]
    assert len(drawn) == 16
    for one, other in combinations(drawn, 2):
        assert not set(one.tolist()) & set(other.tolist())


def test_sampling_noise_of_seed_0_is_not_the_training_noise_of_seed_1(make_agent: Callable[..., IPMAgent]) -> None:
    """As it was when streams were made of seed and seed + 1."""
    zero, one = make_agent(seed=0), make_agent(seed=1)
    sampling, training = (generator.initial_seed() for generator in (zero.sample_generator, one.generator))
    assert sampling != training
    assert not {0, 1, 2} & {generator.initial_seed() for agent in (zero, one) for generator in generators(agent)}


def test_initial_weights_follow_the_seed() -> None:
    same, again, other = (SFTPG(num_envs=4, env_kwargs={"num_steps": 2}, seed=seed) for seed in (5, 5, 6))
    weights = [torch.cat([w.flatten() for w in agent.value.parameters()]) for agent in (same, again, other)]
    critics = [torch.cat([w.flatten() for w in agent.critic.parameters()]) for agent in (same, again, other)]
    for found in (weights, critics):
        assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
