"""What every critic owes to its caller: scores, updates, exact resume, files, seeds."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffusion_env.critics import CRITICS, Critic, FrozenCritic, load_critic, make_critic

TRAINED = ["baseline", "energy", "gradient_penalty", "spectral_norm", "weight_clipping"]
NAMES = [*TRAINED, "mmd"]
SHAPES = [(2,), (1, 8, 8)]
Batch = tuple[Tensor, Tensor]


def batch(shape: tuple[int, ...], seed: int = 0, real: int = 40, fake: int = 23, gap: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(real, *shape, generator=generator)
    return x, torch.randn(fake, *shape, generator=generator) + gap


def step(critic: Critic, real: Tensor, fake: Tensor) -> dict[str, float]:
    """One update as the environment makes it, on three-state trajectories that end in `fake`."""
    xs = torch.stack([0.1 * fake, 0.5 * fake, fake])
    return critic.update(real, fake, critic.trajectory_penalty(xs))


def train(critic: Critic, steps: int, gap: float, seed: int = 0) -> Critic:
    for i in range(steps):
        step(critic, *batch((2,), 1000 * seed + i, 128, 96, gap))
    return critic


def by_deepcopy(critic: Critic, folder: Path) -> Critic:
    return copy.deepcopy(critic)


def by_pickle(critic: Critic, folder: Path) -> Critic:
    return pickle.loads(pickle.dumps(critic))


def by_state_dict(critic: Critic, folder: Path) -> Critic:
    assert critic.shape is not None
    other = make_critic(critic.name, critic.shape, seed=99)
    other.load_state_dict(critic.state_dict())
    return other


def by_file(critic: Critic, folder: Path) -> Critic:
    return load_critic(critic.save(folder / "critic"))


def test_the_seven_names() -> None:
    assert sorted(CRITICS) == sorted([*NAMES, "frozen"])
    assert all(CRITICS[name].name == name for name in CRITICS)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_shape_of_the_batch(name: str, shape: tuple[int, ...]) -> None:
    critic = make_critic(name, shape)
    step(critic, *batch(shape))
    assert critic(torch.zeros(shape)).shape == ()
    assert critic(torch.zeros(5, *shape)).shape == (5,)
    assert critic(torch.zeros(4, 3, *shape)).shape == (4, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_update_takes_batches_of_different_sizes(name: str, shape: tuple[int, ...]) -> None:
    critic = make_critic(name, shape)
    for real, fake in [(1, 7), (7, 1), (16, 16)]:
        metrics = step(critic, *batch(shape, real=real, fake=fake))
        assert {"critic_loss", "ipm", "grad_norm"} <= metrics.keys()
        assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("name", NAMES)
def test_update_reports_the_gap_before_the_step(name: str) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    real, fake = batch((2,), seed=5)
    before = critic.distance(real, fake)
    assert before == pytest.approx((critic(real).mean() - critic(fake).mean()).item(), abs=1e-6)
    assert step(critic, real, fake)["ipm"] == pytest.approx(before, abs=1e-4)
    assert critic.distance(real, fake) > before


@pytest.mark.parametrize("name", NAMES)
def test_high_on_data_and_blind_without_a_difference(name: str) -> None:
    told_apart = train(make_critic(name, (2,)), 60, gap=2.0)
    control = train(make_critic(name, (2,)), 60, gap=0.0)
    gap = told_apart.distance(*batch((2,), 77, 4000, 4000, 2.0))
    no_gap = control.distance(*batch((2,), 77, 4000, 4000, 0.0))
    assert gap > 0.3
    assert abs(no_gap) < 0.15 * gap
    assert told_apart.distance(*reversed(batch((2,), 77, 4000, 4000, 2.0))) == pytest.approx(-gap, rel=1e-4)


@pytest.mark.parametrize("restore", [by_deepcopy, by_pickle, by_state_dict, by_file])
@pytest.mark.parametrize("name", NAMES)
def test_resume_is_exact(name: str, restore: Callable[[Critic, Path], Critic], tmp_path: Path) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    critic.set_learning_rate(3e-4)
    step(critic, *batch((2,), 8, 12, 34))
    restored = restore(critic, tmp_path)
    x = batch((2,), seed=6)[0]
    for seed in range(3):  # in turns, so that moments shared between the two would show
        assert step(critic, *batch((2,), seed)) == step(restored, *batch((2,), seed))
        assert torch.equal(critic(x), restored(x))


@pytest.mark.parametrize("name", TRAINED)
def test_resume_without_the_optimiser_is_not_exact(name: str) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    restored = copy.deepcopy(critic)
    restored.reset(torch.Generator().manual_seed(0))
    restored.load_state_dict(critic.state_dict() | {"_extra_state": restored.get_extra_state()})
    step(critic, *batch((2,)))
    step(restored, *batch((2,)))
    assert not torch.equal(critic(torch.ones(5, 2)), restored(torch.ones(5, 2)))


@pytest.mark.parametrize("name", TRAINED)
def test_weights_come_from_the_seed_alone(name: str) -> None:
    x = batch((2,))[0]
    global_state = torch.get_rng_state()
    first = make_critic(name, (2,), seed=1)
    assert torch.equal(torch.get_rng_state(), global_state)
    torch.rand(3)
    assert torch.equal(first(x), make_critic(name, (2,), seed=1)(x))
    assert not torch.equal(first(x), make_critic(name, (2,), seed=2)(x))


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_everything_and_keeps_the_parameters(name: str) -> None:
    fresh, used = make_critic(name, (2,)), train(make_critic(name, (2,)), 3, gap=1.0)
    parameters = list(used.parameters())
    for critic in (fresh, used):
        critic.reset(torch.Generator().manual_seed(4))
    assert all(a is b for a, b in zip(parameters, used.parameters(), strict=True))
    for seed in range(2):
        assert step(fresh, *batch((2,), seed)) == step(used, *batch((2,), seed))


@pytest.mark.parametrize("name", TRAINED)
def test_learning_rate_zero_stops_training(name: str) -> None:
    critic = make_critic(name, (2,))
    before = [p.clone() for p in critic.parameters()]
    critic.set_learning_rate(0.0)
    step(critic, *batch((2,)))
    assert all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))
    critic.set_learning_rate(1e-3)
    step(critic, *batch((2,)))
    assert not all(torch.equal(a, b) for a, b in zip(before, critic.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_update_inside_inference_mode(name: str) -> None:
    inside, outside = make_critic(name, (2,)), make_critic(name, (2,))
    for seed in range(2):
        with torch.inference_mode():
            metrics = step(inside, *batch((2,), seed))
        assert metrics == step(outside, *batch((2,), seed))
    assert inside.lipschitz(batch((2,))[0]) == outside.lipschitz(batch((2,))[0])


@pytest.mark.parametrize("name", NAMES)
def test_scoring_changes_nothing(name: str) -> None:
    critic = train(make_critic(name, (2,)), 2, gap=1.0)
    critic.train()
    critic.zero_grad()
    before = copy.deepcopy(critic.state_dict())
    x = batch((2,))[0]
    assert torch.equal(critic(x), critic(x))
    critic.lipschitz(x)
    after = critic.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if isinstance(before[k], Tensor))
    assert all(p.grad is None for p in critic.parameters())


def test_lipschitz_is_the_largest_gradient_norm() -> None:
    critic = FrozenCritic(lambda x: (torch.tensor([3.0, 4.0]) * x).sum(-1) + x[..., 0] ** 2 / 2, (2,))
    assert critic.lipschitz(torch.tensor([[0.0, 0.0], [-3.0, 1.0]])) == pytest.approx(5.0)
    assert critic.lipschitz(torch.tensor([[[0.0, 0.0]], [[2.0, 1.0]]])) == pytest.approx(41**0.5)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_moving_to_the_device_takes_the_optimiser_along(name: str) -> None:
    critic = train(make_critic(name, (2,)), 2, gap=1.0).to("cuda")
    real, fake = batch((2,))
    step(critic, real.cuda(), fake.cuda())
    assert critic(real.cuda()).is_cuda
