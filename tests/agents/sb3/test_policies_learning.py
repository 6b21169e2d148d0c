"""PPO with the denoising actor raises a fixed reward, lowers its opposite, and stands still without a step size."""

from collections.abc import Callable
from typing import Any

import torch
from stable_baselines3 import PPO

from agents.sb3.policies import DenoisingActorCriticPolicy, denoising_policy_kwargs
from agents.sb3.samplers import sb3_sampler
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.walk import sample
from tests.support import nearness

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_ENVS, NUM_STEPS = 64, 3


def trained_reward(make_env: MakeEnv, critic: Any, learning_rate: float) -> tuple[float, float]:
    """The mean nearness of the samples before and after training on ``critic``."""
    env = make_env(NUM_ENVS, seed=0, critic=critic)
    kwargs = denoising_policy_kwargs(env)
    model = PPO(
        DenoisingActorCriticPolicy,
        env,
        learning_rate,
        n_steps=4 * NUM_STEPS,
        batch_size=4 * NUM_STEPS * NUM_ENVS,
        n_epochs=4,
        gamma=1.0,
        policy_kwargs=kwargs,
        seed=0,
        device="cpu",
    )
    draw = sb3_sampler(model)
    before = float(nearness(draw(4_000, 99)).mean())
    model.learn(12 * 4 * NUM_STEPS * NUM_ENVS)
    return before, float(nearness(draw(4_000, 99)).mean())


def test_a_fixed_reward_rises_and_its_opposite_falls(make_env: MakeEnv) -> None:
    start, towards = trained_reward(make_env, nearness, 3e-3)
    same_start, away = trained_reward(make_env, lambda x: -nearness(x), 3e-3)
    assert start == same_start
    assert towards > start + 0.2
    assert away < start - 0.2


def test_negative_control_without_a_step_size_nothing_is_learned(make_env: MakeEnv) -> None:
    before, after = trained_reward(make_env, nearness, 0.0)
    assert before == after


def test_an_untrained_sampler_draws_the_pretrained_law(make_env: MakeEnv) -> None:
    """In both action modes, before training."""
    for mode in ("step", "residual"):
        env = make_env(action_mode=mode)
        policy = DenoisingActorCriticPolicy if mode == "step" else "MultiInputPolicy"
        kwargs = denoising_policy_kwargs(env) if mode == "step" else {}
        model = PPO(policy, env, policy_kwargs=kwargs, n_steps=3, batch_size=18, seed=0, device="cpu")
        assert env.denoiser is not None
        samples, fresh = sb3_sampler(model)(5_000, 0), torch.Generator().manual_seed(0)
        pretrained = sample(env.table, env.denoiser, 5_000, fresh)
        assert sliced_wasserstein(samples, pretrained, fresh, 50) < 0.08
        assert sliced_wasserstein(samples + 0.2, pretrained, fresh, 50) > 0.1  # the bound can fail
