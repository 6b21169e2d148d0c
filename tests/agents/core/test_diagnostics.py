"""What is measured when a line is logged: KL to the pretrained sampler, the critic on held-out data, dead weights."""

import pytest
import torch
from torch import Tensor, nn

from agents.core.diagnostics import critic_diagnostics, kl_to_pretrained, weights_without_gradient
from agents.core.policy import DenoisingPolicy
from diffusion_env.critics import FrozenCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule

SCHEDULE = make_schedule("cosine", 50)


def policies(sampler: str) -> tuple[DenoisingPolicy, DenoisingPolicy]:
    table = make_table(sampler, SCHEDULE, 3)
    own, pretrained = (EpsMLP((2,), SCHEDULE, 8, 1, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    return DenoisingPolicy(own, table), DenoisingPolicy(pretrained, table)


def states() -> Tensor:
    return torch.randn(4, 6, 2, generator=torch.Generator().manual_seed(0))


def test_the_kl_is_per_step_and_its_sum_and_counts_no_evaluation() -> None:
    policy, pretrained = policies("ddpm")
    found = kl_to_pretrained(policy, pretrained, states())
    steps = [found[f"kl_to_pretrained/step_{k:04d}"] for k in range(3)]
    with torch.no_grad():
        expected = [float(policy(states()[k], k).kl(pretrained(states()[k], k)).mean()) for k in range(3)]
    assert steps == pytest.approx(expected, rel=1e-3)
    assert found["train/kl_to_pretrained"] == pytest.approx(sum(expected), rel=1e-3)
    assert kl_to_pretrained(policy, policy, states())["train/kl_to_pretrained"] == pytest.approx(0, abs=1e-6)
    before = policy.num_evaluations
    kl_to_pretrained(policy, pretrained, states())
    assert policy.num_evaluations == before


def test_there_is_no_kl_between_point_masses() -> None:
    assert kl_to_pretrained(*policies("ddim"), states()) == {}


def test_a_critic_that_memorises_is_seen_and_one_that_does_not_is_not() -> None:
    train, held_out = (torch.randn(2_000, 2, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    data = Dataset("normal", train, held_out, torch.zeros(2), 1.0)
    known = set(train[:, 0].tolist())

    def memory(x: Tensor) -> Tensor:
        return torch.tensor([float(value in known) for value in x[:, 0].tolist()]) + 0.01 * x[:, 1]

    memorised = critic_diagnostics(FrozenCritic(memory, (2,)), data, train[:100] + 5, 3, 0)
    assert memorised["critic/overfit_z"] > 100
    slope = critic_diagnostics(
        FrozenCritic(lambda x: 3 * x[..., 0], (2,)), data, held_out[:100] - 5, seed=3, iteration=0
    )
    assert abs(slope["critic/overfit_z"]) < 4
    assert slope["critic/lipschitz"] == pytest.approx(3.0, rel=1e-4)
    assert slope["critic/gap_held_out"] == pytest.approx(15.0, abs=0.6)
    again = critic_diagnostics(
        FrozenCritic(lambda x: 3 * x[..., 0], (2,)), data, held_out[:100] - 5, seed=3, iteration=0
    )
    assert again == slope


def test_weights_that_no_gradient_ever_reached_are_counted() -> None:
    used, cut = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.Adam([used, cut])
    (used.sum() + 0 * cut.sum()).backward()
    optimizer.step()
    assert weights_without_gradient(optimizer) == 1
    optimizer.zero_grad()
    (0 * used.sum() + cut.sum()).backward()  # a step without gradient for the first: it had one before
    optimizer.step()
    assert weights_without_gradient(optimizer) == 0
