"""What a run of stable-baselines3 costs in network evaluations."""

from collections.abc import Callable
from typing import Any

import pytest
from stable_baselines3 import SAC

from agents.sb3.counting import NetworkEvaluations
from agents.sb3.vec_env import DDPMShortcutVecEnv
from tests.support import small_ppo

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_ENVS, NUM_STEPS = 6, 3
ROLLOUT = NUM_ENVS * NUM_STEPS


def make_sac(env: DDPMShortcutVecEnv) -> SAC:
    kwargs: dict[str, Any] = {"net_arch": [8]}
    return SAC("MultiInputPolicy", env, learning_starts=6, batch_size=8, policy_kwargs=kwargs, seed=0, device="cpu")


@pytest.mark.parametrize(("mode", "per_step"), [("step", 1), ("residual", 2)])
def test_ppo_s_network_evaluations(make_env: MakeEnv, mode: str, per_step: int) -> None:
    """Each step asks the actor once (and the denoiser in "residual" mode), each update the actor on a whole rollout."""
    model = small_ppo(make_env(action_mode=mode))
    counter = NetworkEvaluations(model)
    model.learn(2 * ROLLOUT)
    assert (counter.actor, counter.denoiser) == (4 * ROLLOUT, 2 * ROLLOUT * (per_step - 1))
    assert int(counter) == 2 * ROLLOUT * (1 + per_step)


def test_sac_s_network_evaluations(make_env: MakeEnv) -> None:
    model = make_sac(make_env(action_mode="residual"))
    counter = NetworkEvaluations(model)
    model.learn(5 * NUM_ENVS)
    # The first step is random; the four others train on 8, where the actor is asked at x[k] and at x[k+1].
    assert (counter.actor, counter.denoiser) == (4 * NUM_ENVS + 4 * 2 * 8, 5 * NUM_ENVS)


def test_what_is_drawn_in_a_pause_does_not_count(make_env: MakeEnv) -> None:
    model = small_ppo(make_env(action_mode="residual"))
    counter = NetworkEvaluations(model)
    with counter.paused():
        model.learn(ROLLOUT)
    assert int(counter) == 0
    model.learn(ROLLOUT)
    assert int(counter) == 3 * ROLLOUT
    counter.remove()
    model.learn(ROLLOUT)
    assert int(counter) == 3 * ROLLOUT
