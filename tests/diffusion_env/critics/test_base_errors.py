"""Errors of the critics: what was received, what is allowed, what to do; and nothing lost."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffusion_env.checkpoints import CheckpointError, Header, save_checkpoint, save_object
from diffusion_env.critics import (
    BaselineCritic,
    Critic,
    EnergyCritic,
    FrozenCritic,
    MMDCritic,
    SpectralNormCritic,
    make_critic,
)

NAMES = ["baseline", "energy", "gradient_penalty", "mmd", "spectral_norm", "weight_clipping"]


def check_paragraph(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
    message = str(error.value)
    assert "\n" not in message and message.endswith(".")
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("name", ["wgan", "frozen", "energy "])
def test_unknown_name_lists_the_names(name: str) -> None:
    with pytest.raises(ValueError) as error:
        make_critic(name, (2,))
    check_paragraph(error, repr(name), *NAMES, "frozen:path")


@pytest.mark.parametrize("shape", [(), (0,), (3, -1)])
def test_bad_event_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:
        make_critic("energy", shape)
    check_paragraph(error, str(shape), "at least 1")


def test_critic_of_another_shape(tmp_path: Path) -> None:
    critic = EnergyCritic((3,))
    for given in (critic, critic.save(tmp_path / "c")):
        with pytest.raises(ValueError) as error:
            make_critic(given, (2,))
        check_paragraph(error, "(3,)", "(2,)", "make_critic")


@pytest.mark.parametrize("name", NAMES)
def test_wrong_shape_and_dtype(name: str) -> None:
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
def test_non_finite_batch_changes_nothing(name: str, value: float) -> None:
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


def test_non_finite_penalty_is_named() -> None:
    with pytest.raises(FloatingPointError) as error:
        EnergyCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2), lambda scores: scores.sum() / 0)
    check_paragraph(error, "penalty = ", "critic_loss = ")


def test_penalty_must_be_a_scalar() -> None:
    with pytest.raises(ValueError) as error:
        EnergyCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2), lambda scores: scores)
    check_paragraph(error, "(3,)", "scalar")


def test_baseline_needs_a_penalty() -> None:
    with pytest.raises(ValueError) as error:
        BaselineCritic((2,)).update(torch.ones(3, 2), torch.ones(3, 2))
    check_paragraph(error, "without a penalty", "trajectory_penalty")


@pytest.mark.parametrize("shape", [(3, 2), (1, 4, 2), (3, 4, 5), (2, 3, 4, 2)])
def test_baseline_trajectories_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError) as error:
        BaselineCritic((2,)).trajectory_penalty(torch.zeros(shape))
    check_paragraph(error, str(shape))


def test_baseline_penalty_of_other_trajectories() -> None:
    critic = BaselineCritic((2,))
    penalty = critic.trajectory_penalty(torch.zeros(3, 4, 2))
    with pytest.raises(ValueError) as error:
        critic.update(torch.ones(4, 2), torch.ones(5, 2), penalty)
    check_paragraph(error, "4 samples", "5 events")


def test_spectral_norm_needs_an_even_width() -> None:
    with pytest.raises(ValueError) as error:
        SpectralNormCritic((2,), width=33)
    check_paragraph(error, "33", "even")


@pytest.mark.parametrize("bandwidths", [[], [1.0, 0.0], [-1.0], [float("nan")], [float("inf")]])
def test_mmd_bandwidths(bandwidths: list[float]) -> None:
    with pytest.raises(ValueError) as error:
        MMDCritic((2,), bandwidths=bandwidths)
    check_paragraph(error, str(bandwidths), "positive")


def test_reward_function_with_a_wrong_score_shape() -> None:
    with pytest.raises(ValueError) as error:
        make_critic(lambda x: x, (2,))(torch.zeros(4, 2))
    check_paragraph(error, "(4, 2)", "(4,)")


def test_reward_function_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError) as error:
        FrozenCritic(torch.sum).save(tmp_path / "reward")
    check_paragraph(error, "cannot be saved")
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_hold_no_critic(tmp_path: Path) -> None:
    other = save_checkpoint(tmp_path / "policy", {}, {"kind": "agent"})
    for given, word in ((tmp_path / "absent", "absent"), (other, "'agent'"), (f"frozen:{other}", "'agent'")):
        with pytest.raises(CheckpointError) as error:
            make_critic(given, (2,))
        check_paragraph(error, word)


def test_critic_file_whose_weights_do_not_fit_its_configuration(tmp_path: Path) -> None:
    small, large = EnergyCritic((2,), width=8), EnergyCritic((2,), width=16)
    path = save_object(tmp_path / "c", Header("critic", "energy", large.config), small.state_dict())
    with pytest.raises(CheckpointError) as error:
        make_critic(path, (2,))
    check_paragraph(error, "(8, 130)", "(16, 130)")


def test_mmd_references_of_another_width_do_not_load() -> None:
    narrow: Critic = MMDCritic((2,))
    narrow.update(torch.randn(4, 2), torch.randn(4, 2))
    with pytest.raises(RuntimeError, match="size mismatch"):
        MMDCritic((3,)).load_state_dict(narrow.state_dict())
