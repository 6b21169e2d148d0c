"""The policy's law against torch.distributions, its actions against the environment, the value function's inputs."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from agents.algorithms.policy_gradient import SFTPG
from agents.core.policy import DenoisingPolicy, all_steps
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable
from tests.support import normal

MakeAgent = Callable[..., SFTPG]
SCHEDULE = make_schedule("cosine", 100)
SHAPES = [(2,), (1, 4, 4)]


def policy_of(shape: tuple[int, ...], num_steps: int = 4) -> DenoisingPolicy:
    return DenoisingPolicy(EpsMLP(shape, SCHEDULE, width=16, depth=1), make_table("ddpm", SCHEDULE, num_steps))


@pytest.mark.parametrize("num_steps", [1, 2, 10])
@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_is_the_summed_normal_of_the_table_row(shape: tuple[int, ...], num_steps: int) -> None:
    policy = policy_of(shape, num_steps)
    table, x, x_next = policy.table, normal(5, *shape), normal(5, *shape, seed=1)
    with torch.no_grad():
        for k in range(num_steps):
            mean = table.x_coef[k] * x + table.eps_coef[k] * policy.net(x, table.time[k])
            expected = Independent(Normal(mean, table.std[k]), len(shape)).log_prob(x_next)
            assert torch.allclose(policy(x, k).log_prob(x_next), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_all_steps_at_once_equal_step_by_step(shape: tuple[int, ...]) -> None:
    policy, xs = policy_of(shape), normal(5, 6, *shape)  # (K + 1, B, *shape)
    steps = all_steps(4, torch.device("cpu"))
    with torch.no_grad():
        whole = policy(xs[:-1], steps).log_prob(xs[1:])
        single = torch.stack([policy(xs[k], k).log_prob(xs[k + 1]) for k in range(4)])
        mixed = policy(xs[[2, 0], [1, 3]], torch.tensor([2, 0])).log_prob(xs[[3, 1], [1, 3]])
    assert whole.shape == (4, 6)
    assert torch.allclose(whole, single, rtol=1e-4)
    assert torch.allclose(mixed, single[[2, 0], [1, 3]], rtol=1e-4)


class Padded(torch.nn.Module):
    """A planar denoiser on the first two of four coordinates."""

    shape: tuple[int, ...] = (4,)
    schedule = SCHEDULE

    def __init__(self, plane: EpsMLP) -> None:
        super().__init__()
        self.plane = plane

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.cat([self.plane(x[..., :2].contiguous(), time), torch.zeros_like(x[..., 2:])], -1)


def test_the_ratio_does_not_depend_on_dimensions_that_do_not_matter() -> None:
    table = make_table("ddpm", SCHEDULE, 4)
    before, after = (EpsMLP((2,), SCHEDULE, 16, 1, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    x, x_next = normal(7, 2), normal(7, 2, seed=1)
    rest, rest_next = normal(7, 2, seed=2), normal(7, 2, seed=3)

    def log_ratio(new: Denoiser, old: Denoiser, x: Tensor, x_next: Tensor) -> Tensor:
        with torch.no_grad():
            new_law, old_law = (DenoisingPolicy(net, table)(x, 1) for net in (new, old))
        return new_law.log_prob(x_next) - old_law.log_prob(x_next)

    plane = log_ratio(after, before, x, x_next)
    wide = log_ratio(Padded(after), Padded(before), torch.cat([x, rest], -1), torch.cat([x_next, rest_next], -1))
    assert torch.allclose(wide, plane, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(wide / 2, plane, rtol=1e-1)  # negative control: averaged over dimensions it would halve


def test_actions_take_the_environment_where_the_policy_wants(make_agent: MakeAgent) -> None:
    agent = make_agent(num_steps=3)
    x = agent.envs.reset(seed=1)[0]["x"]
    for k in range(2):
        wanted = normal(8, 2, seed=k)
        x_new = agent.envs.step(agent.policy.action(x, wanted, k))[0]["x"]
        assert torch.allclose(x_new, wanted, atol=1e-5)
        x = x_new


def test_the_policy_uses_the_module_given_and_refuses_what_cannot_be_trained() -> None:
    network = EpsMLP((2,), SCHEDULE)
    table = make_table("ddpm", SCHEDULE, 2)
    assert DenoisingPolicy(network, table).net is network

    def formula(x: Tensor, time: Tensor) -> Tensor:
        return x

    with pytest.raises(TypeError, match=r"trainable denoiser .* received function"):
        DenoisingPolicy(formula, table)  # type: ignore[arg-type]


def test_a_step_without_noise_cannot_be_scored() -> None:
    network, table = EpsMLP((2,), SCHEDULE, width=16, depth=1), make_table("ddim", SCHEDULE, 3)
    policy = DenoisingPolicy(network, table)
    assert policy.noiseless_steps == [0, 1, 2]
    with pytest.raises(ValueError, match="std is 0"):
        policy(torch.zeros(4, 2), 1).log_prob(torch.zeros(4, 2))
    assert DenoisingPolicy(network, table, min_std=0.1).noiseless_steps == []
    assert policy_of((2,)).noiseless_steps == []


def test_a_table_on_another_schedule_changes_the_law() -> None:
    network = EpsMLP((2,), SCHEDULE)
    x = normal(4, 2)
    laws = [DenoisingPolicy(network, make_table(name, SCHEDULE, 3))(x, 1) for name in ("ddpm", "fastdpm")]
    assert not torch.allclose(laws[0].mean, laws[1].mean, atol=1e-3)
    assert isinstance(make_table("ddpm", SCHEDULE, 3), StepTable)
