"""Every named critic on images: the body is convolutional, trains in every weight, resumes, and tells sets apart."""

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_env.critics import Critic, EnergyCritic, FrozenCritic, load_critic, make_critic
from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.networks.layers import Convolution

TRAINED = ["baseline", "energy", "gradient_penalty", "spectral_norm", "weight_clipping"]
NAMES = [*TRAINED, "mmd"]
SHAPES = [(1, 8, 8), (3, 16, 16)]


def make(name: str, shape: tuple[int, ...], seed: int = 0) -> Critic:
    return make_critic(name, shape, seed, {} if name == "mmd" else {"width": 32, "depth": 1, "learning_rate": 3e-3})


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_scores_have_the_shape_of_the_batch(
    batch: Callable[..., Any], update: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    critic = make(name, shape)
    for real, fake in [(1, 7), (7, 1), (16, 16)]:
        assert {"critic_loss", "ipm", "grad_norm"} <= update(critic, *batch(shape, real=real, fake=fake)).keys()
    x = batch(shape, real=12)[0].view(4, 3, *shape)
    with torch.no_grad():
        assert critic(x[0, 0]).shape == () and critic(x[0]).shape == (3,)
        torch.testing.assert_close(critic(x)[2], critic(x[2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_weight_of_the_body(
    batch: Callable[..., Any], update: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    critic = make(name, shape)
    assert isinstance(critic, TrainedCritic) and critic.body == critic.config["body"] == "conv"
    assert any(isinstance(layer, Convolution) for layer in critic.network.modules())
    update(critic, *batch(shape))
    weights = dict(critic.named_parameters())
    if name not in ("baseline", "energy"):
        *_, last_bias = (key for key in weights if key.startswith("network") and key.endswith("bias"))
        del weights[last_bias]  # it moves the scores of data and of samples alike
    assert len(weights) > 4
    assert [key for key, weight in weights.items() if weight.grad is None or not weight.grad.any()] == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_images_are_told_apart(
    batch: Callable[..., Any], update: Callable[..., Any], name: str, shape: tuple[int, ...]
) -> None:
    """Fakes are darker by 0.7 of a standard deviation; the control's are not."""
    gaps = []
    for gap in (0.7, 0.0):
        critic = make(name, shape)
        for seed in range(25):
            update(critic, *batch(shape, seed, 64, 64, -gap))
        gaps.append(critic.distance(*batch(shape, 99, 500, 500, -gap)))
    assert gaps[0] > 0.2
    assert abs(gaps[1]) < 0.3 * gaps[0]


@pytest.mark.parametrize("name", NAMES)
def test_resume_is_exact(batch: Callable[..., Any], update: Callable[..., Any], name: str, tmp_path: Path) -> None:
    shape, x = (1, 8, 8), batch((1, 8, 8), seed=6)[0]
    critic = make(name, shape)
    update(critic, *batch(shape))
    state = make(name, shape, seed=99)
    state.load_state_dict(critic.state_dict())
    path = critic.save(tmp_path / "critic")
    restored = [copy.deepcopy(critic), pickle.loads(pickle.dumps(critic)), state, load_critic(path)]
    for seed in range(2):
        expected = update(critic, *batch(shape, seed))
        for other in restored:
            assert update(other, *batch(shape, seed)) == expected
            assert torch.equal(other(x), critic(x))


@pytest.mark.parametrize("name", NAMES)
def test_reset_and_the_seed(batch: Callable[..., Any], update: Callable[..., Any], name: str) -> None:
    shape, state = (1, 8, 8), torch.get_rng_state()
    fresh, used = make(name, shape), make(name, shape)
    assert torch.equal(torch.get_rng_state(), state)
    parameters = list(used.parameters())
    update(used, *batch(shape))
    for critic in (fresh, used):
        critic.reset(torch.Generator().manual_seed(4))
    assert all(a is b for a, b in zip(parameters, used.parameters(), strict=True))
    assert update(fresh, *batch(shape)) == update(used, *batch(shape))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_on_an_accelerator(batch: Callable[..., Any], update: Callable[..., Any], name: str) -> None:
    critic, (real, fake) = make(name, (3, 16, 16)).to("cuda"), batch((3, 16, 16))
    assert math.isfinite(update(critic, real.cuda(), fake.cuda())["critic_loss"])
    assert critic(real.cuda()).is_cuda


def test_a_frozen_critic_scores_images(batch: Callable[..., Any], tmp_path: Path) -> None:
    critic, x = make("energy", (1, 8, 8)), batch((1, 8, 8))[0]
    frozen = make_critic(critic.save(tmp_path / "critic"), (1, 8, 8))
    assert isinstance(frozen, FrozenCritic) and torch.equal(frozen(x), critic(x))


def test_the_body_can_be_named(batch: Callable[..., Any]) -> None:
    flat, conv = (make_critic("energy", (1, 8, 8), kwargs={"body": body, "width": 16}) for body in ("mlp", None))
    assert (flat.config["body"], conv.config["body"]) == ("mlp", "conv")
    assert not any(isinstance(layer, Convolution) for layer in flat.modules())
    assert flat(batch((1, 8, 8))[0]).shape == (40,)


def test_fourier_features_of_an_energy_critic_on_images() -> None:
    def inputs(num_features: int | None) -> int:
        critic = EnergyCritic((3, 8, 8), width=16, num_features=num_features)
        return next(layer.in_channels for layer in critic.modules() if isinstance(layer, Convolution))

    assert inputs(None) == inputs(0) == 3 and inputs(6) == 15
