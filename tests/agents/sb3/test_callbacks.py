"""The agents' evaluation on SB3's algorithms: same names, its own spacing, no influence on the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.logger import configure

from agents.sb3.callbacks import CriticSchedule, SB3Evaluation
from agents.sb3.counting import NetworkEvaluations
from agents.sb3.samplers import sb3_sampler
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.evaluation.metrics import sliced_wasserstein

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_ENVS, NUM_STEPS = 6, 3
ROLLOUT = NUM_ENVS * NUM_STEPS


def make_ppo(env: DDPMShortcutVecEnv) -> PPO:
    return PPO("MultiInputPolicy", env, n_steps=NUM_STEPS, batch_size=9, n_epochs=1, seed=0, device="cpu")


def make_sac(env: DDPMShortcutVecEnv) -> SAC:
    kwargs: dict[str, Any] = {"net_arch": [8]}
    return SAC("MultiInputPolicy", env, learning_starts=6, batch_size=8, policy_kwargs=kwargs, seed=0, device="cpu")


def test_on_policy_spacing(make_env: MakeEnv) -> None:
    evaluation = SB3Evaluation(2 * ROLLOUT - 1, num_samples=50)
    make_ppo(make_env()).learn(5 * ROLLOUT, evaluation)
    assert [m.num_timesteps for m in evaluation.history] == [i * ROLLOUT for i in (0, 2, 4, 5)]


def test_off_policy_spacing(make_env: MakeEnv) -> None:
    """A rollout of SAC is one step of each environment."""
    evaluation = SB3Evaluation(4 * NUM_ENVS, num_samples=50)
    make_sac(make_env()).learn(9 * NUM_ENVS, evaluation)
    assert [m.num_timesteps for m in evaluation.history] == [i * NUM_ENVS for i in (0, 4, 8, 9)]


def test_it_logs_the_agents_names(make_env: MakeEnv, tmp_path: Path) -> None:
    model = make_ppo(make_env())
    model.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    model.learn(ROLLOUT, SB3Evaluation(ROLLOUT, num_samples=50))
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    wanted = {"eval/sw2", "eval/off_support", "time/train_seconds", "time/train_cpu_seconds", "rollout/ep_rew_mean"}
    assert wanted <= set(header)


def test_it_measures_the_model_s_samples_against_the_environment_s_data(make_env: MakeEnv) -> None:
    env = make_env()
    model, evaluation = make_ppo(env), SB3Evaluation(ROLLOUT, num_samples=300)
    model.learn(2 * ROLLOUT, evaluation)
    samples = sb3_sampler(model)(300, evaluation.seed)
    directions = torch.Generator().manual_seed(evaluation.seed)
    sw2 = sliced_wasserstein(samples, evaluation.points.reference, directions, evaluation.config.num_projections)
    assert evaluation.history[-1].sw2 == sw2  # after the last update, not before it
    assert evaluation.dataset is env.dataset


@pytest.mark.parametrize("make", [make_ppo, make_sac])
def test_a_watched_run_is_the_run(make_env: MakeEnv, make: Callable[[DDPMShortcutVecEnv], Any]) -> None:
    # One after the other: a model seeds the global generators when it is made.
    plain, watched, other = (
        list(make(make_env()).learn(rollouts * ROLLOUT, callback).policy.parameters())
        for rollouts, callback in [(3, None), (3, SB3Evaluation(ROLLOUT, num_samples=50)), (4, None)]
    )
    assert all(torch.equal(a, b) for a, b in zip(plain, watched, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_deterministic_samples(make_env: MakeEnv) -> None:
    model, spread = make_ppo(make_env(num_steps=1)), []
    for deterministic in (False, True):
        evaluation = SB3Evaluation(ROLLOUT, 50, deterministic=deterministic)
        model.learn(ROLLOUT, evaluation)
        spread.append(float(evaluation._draw().std()))
    assert spread[1] < spread[0]


def test_spacing_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="every_timesteps must be an integer >= 1; received 0"):
        SB3Evaluation(0)


# --- NetworkEvaluations ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "per_step"), [("step", 1), ("residual", 2)])
def test_ppo_s_network_evaluations(make_env: MakeEnv, mode: str, per_step: int) -> None:
    """Each step asks the actor once (and the denoiser in "residual" mode), each update the actor on a whole rollout."""
    model = make_ppo(make_env(action_mode=mode))
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


def test_what_the_evaluation_draws_does_not_count(make_env: MakeEnv) -> None:
    counts = []
    for watched in (False, True):
        model = make_ppo(make_env(action_mode="residual"))
        counter = NetworkEvaluations(model)
        model.learn(2 * ROLLOUT, SB3Evaluation(ROLLOUT, 50, counter=counter) if watched else None)
        counts.append(int(counter))
    assert counts[0] == counts[1] > 0
    counter.remove()
    model.learn(ROLLOUT)
    assert int(counter) == counts[1]


def rates_of_the_critic(model: PPO, env: DDPMShortcutVecEnv, total: int, reset: bool = True) -> list[float]:
    seen: list[float] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(env.critic, "set_learning_rate", seen.append)
        model.learn(total, CriticSchedule(0.4), reset_num_timesteps=reset)
    return seen


def test_the_critic_s_step_size_falls_to_zero_over_each_call_of_learn(make_env: MakeEnv) -> None:
    env = make_env()
    model = make_ppo(env)
    assert rates_of_the_critic(model, env, 4 * ROLLOUT) == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert rates_of_the_critic(model, env, 2 * ROLLOUT, reset=False) == pytest.approx([0.4, 0.2])


def test_the_critic_s_step_size_is_a_number() -> None:
    with pytest.raises(ValueError, match=r"finite number >= 0; received -1"):
        CriticSchedule(-1)
