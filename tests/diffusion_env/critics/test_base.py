"""What every critic owes to its caller: scores, updates, exact resume, files, errors."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_env.critics import (
    Critic,
    FrozenCritic,
    load_critic,
    make_critic,
)

NAMES = ["baseline", "energy", "gradient_penalty", "mmd", "spectral_norm", "weight_clipping"]
SHAPES = [(2,), (1, 4, 4)]


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_shape_of_the_batch(
    batch: Callable[..., Any], update: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    critic = make_critic(name, shape)
    update(critic, *batch(shape))
    assert critic(torch.zeros(shape)).shape == ()
    assert critic(torch.zeros(5, *shape)).shape == (5,)
    assert critic(torch.zeros(4, 3, *shape)).shape == (4, 3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_update_takes_batches_of_different_sizes(
    batch: Callable[..., Any], update: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    critic = make_critic(name, shape)
    for real, fake in [(1, 7), (7, 1), (16, 16)]:
        metrics = update(critic, *batch(shape, real=real, fake=fake))
        assert {"critic_loss", "ipm", "grad_norm"} <= metrics.keys()
        assert all(type(value) is float for value in metrics.values())


@pytest.mark.parametrize("name", NAMES)
def test_update_reports_the_gap_before_the_step(
    batch: Callable[..., Any], update: Callable[..., Any], train: Callable[..., Any], name: str
) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    real, fake = batch((2,), seed=5)
    before = critic.distance(real, fake)
    assert before == pytest.approx((critic(real).mean() - critic(fake).mean()).item(), abs=1e-6)
    assert update(critic, real, fake)["ipm"] == pytest.approx(before, abs=1e-4)
    assert critic.distance(real, fake) > before


@pytest.mark.parametrize("name", NAMES)
def test_high_on_data_and_blind_without_a_difference(
    batch: Callable[..., Any], train: Callable[..., Any], name: str
) -> None:
    told_apart = train(make_critic(name, (2,)), 60, gap=2.0)
    control = train(make_critic(name, (2,)), 60, gap=0.0)
    gap = told_apart.distance(*batch((2,), 77, 4000, 4000, 2.0))
    no_gap = control.distance(*batch((2,), 77, 4000, 4000, 0.0))
    assert gap > 0.3
    assert abs(no_gap) < 0.15 * gap
    assert told_apart.distance(*reversed(batch((2,), 77, 4000, 4000, 2.0))) == pytest.approx(-gap, rel=1e-4)


@pytest.mark.parametrize("restore", [by_deepcopy, by_pickle, by_state_dict, by_file])
@pytest.mark.parametrize("name", NAMES)
def test_resume_is_exact(
    batch: Callable[..., Any],
    update: Callable[..., Any],
    train: Callable[..., Any],
    name: str,
    restore: Callable[[Critic, Path], Critic],
    tmp_path: Path,
) -> None:
    critic = train(make_critic(name, (2,)), 3, gap=1.0)
    critic.set_learning_rate(3e-4)
    update(critic, *batch((2,), 8, 12, 34))
    restored = restore(critic, tmp_path)
    x = batch((2,), seed=6)[0]
    for seed in range(3):  # in turns, so that moments shared between the two would show
        assert update(critic, *batch((2,), seed)) == update(restored, *batch((2,), seed))
        assert torch.equal(critic(x), restored(x))


@pytest.mark.parametrize("name", NAMES)
def test_reset_forgets_everything_and_keeps_the_parameters(
    batch: Callable[..., Any], update: Callable[..., Any], train: Callable[..., Any], name: str
) -> None:
    fresh, used = make_critic(name, (2,)), train(make_critic(name, (2,)), 3, gap=1.0)
    parameters = list(used.parameters())
    for critic in (fresh, used):
        critic.reset(torch.Generator().manual_seed(4))
    assert all(a is b for a, b in zip(parameters, used.parameters(), strict=True))
    for seed in range(2):
        assert update(fresh, *batch((2,), seed)) == update(used, *batch((2,), seed))


@pytest.mark.parametrize("name", NAMES)
def test_update_inside_inference_mode(batch: Callable[..., Any], update: Callable[..., Any], name: str) -> None:
    inside, outside = make_critic(name, (2,)), make_critic(name, (2,))
    for seed in range(2):
        with torch.inference_mode():
            metrics = update(inside, *batch((2,), seed))
        assert metrics == update(outside, *batch((2,), seed))
    assert inside.lipschitz(batch((2,))[0]) == outside.lipschitz(batch((2,))[0])


@pytest.mark.parametrize("name", NAMES)
def test_scoring_changes_nothing(batch: Callable[..., Any], train: Callable[..., Any], name: str) -> None:
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


@pytest.mark.parametrize("shape", [(), (0,), (3, -1)])
def test_bad_event_shape(check_paragraph: Callable[..., Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:
        make_critic("energy", shape)
    check_paragraph(error, str(shape), "at least one dimension" if shape == () else ">= 1")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shape_and_dtype(check_paragraph: Callable[..., Any], name: str) -> None:
    critic = make_critic(name, (2,))
    good = torch.zeros(4, 2)
    bad_calls: list[tuple[type[Exception], Callable[[], object], str]] = [
        (ValueError, lambda: critic(torch.zeros(4, 3)), "(4, 3)"),
        (ValueError, lambda: critic(torch.zeros(())), "()"),
        (TypeError, lambda: critic(good.double()), "torch.float64"),
        (ValueError, lambda: critic.update(torch.zeros(4, 3), good, torch.mean), "(4, 3)"),
        (ValueError, lambda: critic.update(good, torch.zeros(0, 2), torch.mean), "(0, 2)"),
        (ValueError, lambda: critic.update(good, torch.zeros(5, 4, 2), torch.mean), "(5, 4, 2)"),
        (TypeError, lambda: critic.update(good, good.int(), torch.mean), "torch.int32"),
    ]
    for kind, call, word in bad_calls:
        with pytest.raises(kind) as error:
            call()
        check_paragraph(error, repr(name), word)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_batch_changes_nothing(check_paragraph: Callable[..., Any], name: str, value: float) -> None:
    critic = make_critic(name, (2,))
    real, fake = torch.randn(6, 2), torch.randn(6, 2)
    critic.update(real, fake, torch.mean)
    before = copy.deepcopy(critic)
    bad = fake.clone()
    bad[3, 1] = value
    with pytest.raises(FloatingPointError) as error:
        critic.update(real, bad, torch.mean)
    check_paragraph(error, repr(name), "real and fake batches")
    assert torch.equal(critic(real), before(real))
    if name != "gradient_penalty":  # its stream of random points has moved on
        assert critic.update(real, fake, torch.mean) == before.update(real, fake, torch.mean)
