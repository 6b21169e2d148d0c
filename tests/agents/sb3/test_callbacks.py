"""The critic's step size while an algorithm of stable-baselines3 trains."""

from collections.abc import Callable

import pytest
from stable_baselines3 import PPO

from agents.sb3.callbacks import CriticSchedule
from agents.sb3.vec_env import DDPMShortcutVecEnv
from tests.support import small_ppo

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_ENVS, NUM_STEPS = 6, 3
ROLLOUT = NUM_ENVS * NUM_STEPS


def rates_of_the_critic(model: PPO, env: DDPMShortcutVecEnv, total: int, reset: bool = True) -> list[float]:
    seen: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(env.critic, "set_learning_rate", seen.append)
        model.learn(total, CriticSchedule(0.4), reset_num_timesteps=reset)
    return seen


def test_the_critic_s_step_size_falls_to_zero_over_the_whole_run(make_env: MakeEnv) -> None:
    env = make_env()
    model = small_ppo(env)
    assert rates_of_the_critic(model, env, 4 * ROLLOUT) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    # As the model's own: steps that are added follow the schedule of all steps together.
    assert rates_of_the_critic(model, env, 4 * ROLLOUT, reset=False) == pytest.approx([0.2, 0.15, 0.1, 0.05])


def test_the_critic_s_step_size_is_a_number() -> None:
    with pytest.raises(ValueError, match=r"finite number >= 0; received -1"):
        CriticSchedule(-1)
