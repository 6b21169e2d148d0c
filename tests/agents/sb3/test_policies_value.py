"""The value network of the actor-critic: SB3's perceptron on points, a body that sees the image on images."""

from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3 import PPO
from torch import Tensor

from agents.sb3.policies import DenoisingActorCriticPolicy, ParticleValue, denoising_policy_kwargs
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule
from tests.support import has_convolutions

SHAPE, NUM_STEPS = (1, 8, 8), 2


@pytest.fixture
def env() -> DDPMShortcutVecEnv:
    points = torch.randn(300, *SHAPE, generator=torch.Generator().manual_seed(0))
    data = Dataset("images", points[:200], points[200:], torch.zeros(SHAPE), 1.0)
    denoiser = EpsMLP(SHAPE, make_schedule("cosine", 50), width=8, depth=1)
    kwargs = {"dataset": data, "denoiser": denoiser, "num_steps": NUM_STEPS, "critic_kwargs": {"width": 8}}
    return DDPMShortcutVecEnv(num_envs=4, env_kwargs=kwargs, seed=0)


def make_model(env: DDPMShortcutVecEnv, seed: int = 0, **changes: Any) -> PPO:
    kwargs = {**denoising_policy_kwargs(env), "value_arch": (16, 16), **changes}
    policy = DenoisingActorCriticPolicy
    return PPO(policy, env, policy_kwargs=kwargs, n_steps=NUM_STEPS, batch_size=8, gamma=1.0, seed=seed, device="cpu")


def observations() -> dict[str, Tensor]:
    x = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    return {"x": x, "step": torch.arange(6) % (NUM_STEPS + 1)}


def test_the_shape_chooses_unless_a_body_is_named(env: DDPMShortcutVecEnv) -> None:
    assert has_convolutions(make_model(env).policy.value_net)
    flat = make_model(env, value_body="mlp").policy
    assert not has_convolutions(flat) and flat.predict_values(observations()).shape == (6, 1)


def test_values_see_the_image_and_the_step(env: DDPMShortcutVecEnv) -> None:
    policy, obs = make_model(env).policy, observations()
    values = policy.predict_values(obs)
    assert isinstance(policy.value_net, ParticleValue)
    torch.testing.assert_close(policy.value_net.net(obs["x"], obs["step"]).unsqueeze(1), values)
    assert not torch.allclose(policy.predict_values({**obs, "step": (obs["step"] + 1) % 3}), values)
    assert not torch.allclose(policy.predict_values({**obs, "x": obs["x"].flip(-1)}), values)


def test_training_moves_every_weight_of_it(env: DDPMShortcutVecEnv) -> None:
    model = make_model(env)
    before = [weight.clone() for weight in model.policy.value_net.parameters()]
    model.learn(4 * 4 * NUM_STEPS)
    after = list(model.policy.value_net.parameters())
    assert len(after) > 8 and not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_weights_follow_the_seed(env: DDPMShortcutVecEnv) -> None:
    obs = observations()
    first, again, other = (make_model(env, seed).policy.predict_values(obs) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_save_and_load(env: DDPMShortcutVecEnv, tmp_path: Path) -> None:
    model, obs = make_model(env, value_arch=(8,)), observations()
    model.learn(4 * NUM_STEPS)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu").policy
    torch.testing.assert_close(loaded.predict_values(obs), model.policy.predict_values(obs))


def test_layers_of_several_widths_need_a_perceptron(env: DDPMShortcutVecEnv) -> None:
    with pytest.raises(ValueError, match=r"hidden layers \[16, 8\], but in the body 'conv' all have one width"):
        make_model(env, value_arch=(16, 8))
    assert make_model(env, value_arch=(16, 8), value_body="mlp").policy is not None
