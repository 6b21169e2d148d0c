"""A critic or reward function of a user: what it is shown, what it may give, and whose name an error has."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffusion_env.checks import NonFiniteActionError
from diffusion_env.critics import Critic, FrozenCritic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.env import DDPMShortcutEnv
from diffusion_env.samplers.schedules import NoiseSchedule, make_schedule
from diffusion_env.scores import checked_metrics
from tests.support import make_vector, single_actions, vector_actions


def run(data: Dataset, critic: Any, batched: bool, **kwargs: Any) -> Any:
    """The last step of one episode."""
    if batched:
        envs = make_vector(data, critic=critic, **kwargs)
        envs.reset(seed=0)
        return [envs.step(action) for action in vector_actions(2)][-1]
    env = DDPMShortcutEnv(data, 2, critic=critic, **kwargs)
    env.reset(seed=0)
    return [env.step(action) for action in single_actions(env, 2)][-1]


def plain_float(x: Tensor) -> Any:
    return 1.0


def in_numpy(x: Tensor) -> Any:
    return np.linalg.norm(x.numpy(), axis=-1)


def of_the_batch(x: Tensor) -> Tensor:
    return x.square().mean()


def a_column(x: Tensor) -> Tensor:
    return x[..., :1]


def nothing(x: Tensor) -> Any:
    return None


def undefined(x: Tensor) -> Tensor:
    return x[..., 0] * torch.nan


def logarithm(x: Tensor) -> Tensor:
    return -(0 * x[..., 0]).log()


def broken(x: Tensor) -> Tensor:
    raise LookupError("the user's own")


def refusing(x: Tensor) -> Tensor:
    raise ValueError("the user's own")


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        (plain_float, TypeError, "The reward function 'plain_float' gave a float .*tensor of shape"),
        (in_numpy, TypeError, r"The reward function 'in_numpy' gave a ndarray .*torch.as_tensor\(f\(x.numpy"),
        (nothing, TypeError, "The reward function 'nothing' gave a NoneType"),
        (of_the_batch, ValueError, r"The reward function 'of_the_batch' gave scores of shape \(\)"),
        (a_column, ValueError, r"The reward function 'a_column' gave scores of shape .*one score per event"),
        (undefined, FloatingPointError, "The reward function 'undefined' gave NaN"),
        (logarithm, FloatingPointError, "The reward function 'logarithm' gave NaN or infinity"),
        (broken, LookupError, "^the user's own$"),
        (refusing, ValueError, "^the user's own$"),
    ],
)
def test_a_reward_function_is_named(
    ring: Dataset, reward: Callable[[Tensor], Any], error: type[Exception], message: str, batched: bool
) -> None:
    for critic in (reward, FrozenCritic(reward, ring.shape)):
        with pytest.raises(error, match=message) as caught:
            run(ring, critic, batched)
        assert not isinstance(caught.value, NonFiniteActionError) and "action" not in str(caught.value)


@pytest.mark.parametrize("reward", [lambda x: (x > 0).all(-1), lambda x: (x > 0).sum(-1), lambda x: x.double().sum(-1)])
def test_scores_of_any_real_type(ring: Dataset, reward: Callable[[Tensor], Tensor]) -> None:
    step = run(ring, reward, True, array_type="numpy")
    assert step[1].dtype == np.float64 and np.isfinite(step[1]).all() and step[1].any()


def test_numpy_around_it_works_as_the_error_says(ring: Dataset) -> None:
    def wrapped(x: Tensor) -> Tensor:
        return torch.as_tensor(in_numpy(torch.as_tensor(x.numpy(force=True))), dtype=x.dtype, device=x.device)

    assert np.isfinite(run(ring, wrapped, True)[1]).all()


@pytest.mark.parametrize("num_envs", [1, 3, 130])
def test_it_is_shown_one_batch_dimension_of_float32_tensors(ring: Dataset, num_envs: int) -> None:
    seen: list[Any] = []

    def spying(x: Tensor) -> Tensor:
        seen.append(x)
        return x.sum(1)

    envs = make_vector(ring, num_envs, critic=spying)
    envs.reset(seed=0)
    for action in vector_actions(4, num_envs):
        envs.step(action)
    scores = envs.critic(torch.zeros(4, 5, 2))
    assert scores.shape == (4, 5) and envs.critic(torch.zeros(2)).shape == ()
    assert len(seen) > 4
    assert all(x.ndim == 2 and x.shape[1] == 2 and len(x) >= 1 and x.dtype == torch.float32 for x in seen)


class OwnCritic(Critic):
    """Written by a user, with the mistake that a test gives it."""

    name = "own"

    def __init__(self, scores: Callable[[Tensor], Any] = lambda x: x.sum(-1), metrics: Any = None) -> None:
        super().__init__((2,))
        self.scores, self.metrics = scores, {"critic_loss": 0.0, "ipm": 0.0} if metrics is None else metrics

    def forward(self, x: Tensor) -> Any:
        return self.scores(x)

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> Any:
        return self.metrics


class TestOwnCritic:
    def test_its_scores(self, ring: Dataset) -> None:
        assert np.isfinite(run(ring, OwnCritic(), True)[1]).all()
        for scores, error in ((plain_float, TypeError), (a_column, ValueError), (undefined, FloatingPointError)):
            with pytest.raises(error, match="The critic 'own' gave"):
                run(ring, OwnCritic(scores), True)

    @pytest.mark.parametrize("key", ["critic_loss", "ipm", "grad_norm"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
    def test_a_loss_that_is_not_finite_stops(self, ring: Dataset, key: str, value: float) -> None:
        envs = make_vector(ring, 130, num_steps=1, critic=OwnCritic(metrics={"critic_loss": 0.0, key: value}))
        envs.reset(seed=0)
        with pytest.raises(FloatingPointError, match=f"The critic 'own' reported {key} = (nan|inf)"):
            envs.step(vector_actions(1, 130)[0])

    def test_what_an_update_gives(self) -> None:
        assert checked_metrics(OwnCritic(), {"ipm": 1.0, "note": np.nan})["ipm"] == 1.0  # others are the user's own
        with pytest.raises(TypeError, match=r"The critic 'own' gave a NoneType from update\(\)"):
            checked_metrics(OwnCritic(), None)


class Broken(nn.Module):
    """A denoiser that gives NaN after ``good`` answers."""

    shape, broadcasts_time = (2,), True
    schedule: NoiseSchedule = make_schedule("cosine")

    def __init__(self, good: int) -> None:
        super().__init__()
        self.good = good

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.good -= 1
        return torch.zeros_like(x) if self.good >= 0 else torch.full_like(x, torch.nan)


@pytest.mark.parametrize("good", [0, 1])
@pytest.mark.parametrize("batched", [False, True])
def test_a_denoiser_that_gives_nan_is_named(ring: Dataset, good: int, batched: bool) -> None:
    with pytest.raises(FloatingPointError, match="The pretrained denoiser Broken gave NaN or infinity"):
        run(ring, "energy", batched, action_mode="residual", denoiser=Broken(good))


def test_an_action_is_blamed_for_itself_alone(ring: Dataset) -> None:
    both: list[dict[str, Any]] = [{}, {"action_mode": "residual", "denoiser": Broken(99)}]
    for kwargs in both:
        envs = make_vector(ring, **kwargs)
        envs.reset(seed=0)
        for bad in (np.nan, np.inf, -np.inf):
            with pytest.raises(NonFiniteActionError, match="An action held NaN or infinity"):
                envs.step(np.full((3, 2), bad, np.float32))
        assert envs.process.k.tolist() == [0, 0, 0]
