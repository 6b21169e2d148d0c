"""The actor-critic starts as the pretrained sampler, to the digit, and trains the denoiser it holds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn

from agents.core.policy import DenoisingPolicy
from agents.sb3.policies import DenoisingActorCriticPolicy, denoising_policy_kwargs
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.denoisers.mlp import EpsMLP

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_STEPS, BATCH = 3, 24


def make_model(env: DDPMShortcutVecEnv, algorithm: Any = PPO, **policy_kwargs: Any) -> Any:
    kwargs = {**denoising_policy_kwargs(env), **policy_kwargs}
    more = {"batch_size": 9, "n_epochs": 2} if algorithm is PPO else {}
    return algorithm(
        DenoisingActorCriticPolicy,
        env,
        policy_kwargs=kwargs,
        n_steps=NUM_STEPS,
        gamma=1.0,
        seed=0,
        device="cpu",
        **more,
    )


@pytest.fixture
def env(make_env: MakeEnv, denoiser: EpsMLP) -> DDPMShortcutVecEnv:
    """With a network whose weights are not trivial."""
    return make_env(denoiser=denoiser)


def mixed_rows(shape: tuple[int, ...] = (2,), num_steps: int = NUM_STEPS) -> dict[str, Tensor]:
    """Observations (BATCH, ...) in all rows, in no order."""
    x = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))
    return {"x": x, "step": torch.arange(BATCH) * 5 % num_steps}


def pretrained_law(env: DDPMShortcutVecEnv, obs: dict[str, Tensor]) -> Any:
    assert isinstance(env.denoiser, nn.Module)
    return DenoisingPolicy(env.denoiser, env.table)(obs["x"], obs["step"])


def test_before_training_it_is_the_pretrained_sampler(env: DDPMShortcutVecEnv) -> None:
    policy, obs = make_model(env).policy, mixed_rows()
    row, law = env.table.rows(obs["step"], 1), pretrained_law(env, obs)
    action_law = policy.get_distribution(obs).distribution
    mean = row.x_coef * obs["x"] + row.action_scale * action_law.mean
    torch.testing.assert_close(mean, law.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(row.action_scale * action_law.stddev, law.std.expand(-1, 2), rtol=1e-5, atol=1e-7)
    actions = action_law.sample()
    x_next = row.x_coef * obs["x"] + row.action_scale * actions
    jacobian = 2 * row.action_scale.squeeze(1).log()  # of x[k+1] with respect to the action, two components
    _, log_prob, entropy = policy.evaluate_actions(obs, actions)
    torch.testing.assert_close(log_prob, law.log_prob(x_next) + jacobian, rtol=1e-3, atol=1e-3)
    assert entropy.shape == (BATCH,)


def test_the_comparison_can_fail(env: DDPMShortcutVecEnv) -> None:
    """With every entry's row moved by one the laws differ."""
    policy, obs = make_model(env).policy, mixed_rows()
    moved = {**obs, "step": (obs["step"] + 1) % NUM_STEPS}
    assert not torch.allclose(policy.get_distribution(moved).mode(), policy.get_distribution(obs).mode(), atol=1e-2)


def test_a_minibatch_of_mixed_rows_is_its_entries(env: DDPMShortcutVecEnv) -> None:
    policy, obs = make_model(env).policy, mixed_rows()
    actions = torch.ones(BATCH, 2)
    together = policy.evaluate_actions(obs, actions)
    for i in range(BATCH):
        alone = policy.evaluate_actions({key: value[i : i + 1] for key, value in obs.items()}, actions[i : i + 1])
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[i], rtol=1e-4, atol=1e-5)


def test_the_ways_to_ask_agree(env: DDPMShortcutVecEnv) -> None:
    policy, obs = make_model(env).policy, mixed_rows()
    actions, values, log_prob = policy(obs)
    again_values, again_log_prob, _ = policy.evaluate_actions(obs, actions)
    torch.testing.assert_close((again_values, again_log_prob), (values, log_prob))
    torch.testing.assert_close(policy.predict_values(obs), values)
    predicted, _ = policy.predict({k: v.numpy() for k, v in obs.items()}, deterministic=True)
    torch.testing.assert_close(torch.tensor(predicted), policy.get_distribution(obs).mode())
    # The replay of a rollout has one more dimension in a Discrete's column.
    column = {"x": obs["x"], "step": obs["step"].unsqueeze(1)}
    torch.testing.assert_close(policy.predict_values(column), values)


def test_a_finished_sample_has_an_action(env: DDPMShortcutVecEnv) -> None:
    policy = make_model(env).policy
    finished, last = ({"x": np.ones(2, np.float32), "step": np.int64(k)} for k in (NUM_STEPS, NUM_STEPS - 1))
    assert np.array_equal(policy.predict(finished, deterministic=True)[0], policy.predict(last, deterministic=True)[0])


def test_gradients_reach_what_they_should(env: DDPMShortcutVecEnv) -> None:
    policy, obs = make_model(env).policy, mixed_rows()
    values, log_prob, _ = policy.evaluate_actions(obs, torch.ones(BATCH, 2))
    actor, critic = policy.action_net, [*policy.mlp_extractor.parameters(), *policy.value_net.parameters()]
    log_prob.mean().backward(retain_graph=True)
    assert all(w.grad is not None and w.grad.abs().sum() > 0 for w in actor.net.parameters())
    assert all(w.grad is None for w in critic)
    policy.zero_grad()
    values.mean().backward()
    assert all(w.grad is not None for w in critic)
    assert all(w.grad is None for w in actor.parameters())


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_training_moves_its_copy_and_not_the_environment_s_network(env: DDPMShortcutVecEnv, algorithm: Any) -> None:
    model = make_model(env, algorithm)
    assert isinstance(env.denoiser, nn.Module)
    given, log_std = [w.clone() for w in env.denoiser.parameters()], model.policy.action_net.log_std.clone()
    model.learn(4 * NUM_STEPS * env.num_envs)
    trained = list(model.policy.action_net.net.parameters())
    assert all(torch.equal(w, old) for w, old in zip(env.denoiser.parameters(), given, strict=True))
    assert not any(torch.equal(w, old) for w, old in zip(trained, given, strict=True))
    assert torch.equal(model.policy.action_net.log_std, log_std)  # the table's


def test_the_std_of_each_row_can_be_learned(env: DDPMShortcutVecEnv) -> None:
    model = make_model(env, learn_std=True)
    before = model.policy.action_net.log_std.detach().clone()
    model.learn(4 * NUM_STEPS * env.num_envs)
    assert bool((model.policy.action_net.log_std != before).all())
    assert before.shape == (NUM_STEPS,)


def test_frozen_networks_are_trained_too(make_env: MakeEnv, denoiser: EpsMLP) -> None:
    """Shipped weights are loaded without gradients."""
    policy = make_model(make_env(denoiser=denoiser.requires_grad_(False))).policy
    assert all(w.requires_grad for w in policy.action_net.net.parameters())
    assert not any(w.requires_grad for w in denoiser.parameters())


def test_save_and_load(env: DDPMShortcutVecEnv, tmp_path: Path) -> None:
    model, obs = make_model(env, learn_std=True, value_arch=(8,)), mixed_rows()
    model.learn(2 * NUM_STEPS * env.num_envs)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    actions = torch.ones(BATCH, 2)
    wanted = model.policy.evaluate_actions(obs, actions)
    loaded = [
        PPO.load(tmp_path / "model", device="cpu").policy,
        DenoisingActorCriticPolicy.load(str(tmp_path / "policy"), device="cpu"),
    ]
    for policy in loaded:
        torch.testing.assert_close(policy.evaluate_actions(obs, actions), wanted)
    assert not torch.allclose(make_model(env).policy.evaluate_actions(obs, actions)[1], wanted[1], atol=1e-4)
    PPO.load(tmp_path / "model", env=env, device="cpu").learn(NUM_STEPS * env.num_envs)


def test_images(image_kwargs: dict[str, Any]) -> None:
    env = DDPMShortcutVecEnv(num_envs=4, env_kwargs=image_kwargs, seed=0)
    model = make_model(env)
    obs = mixed_rows((1, 4, 4), 2)
    row = env.table.rows(obs["step"], 3)
    mean = row.x_coef * obs["x"] + row.action_scale * model.policy.get_distribution(obs).mode().unflatten(1, (1, 4, 4))
    torch.testing.assert_close(mean, pretrained_law(env, obs).mean, rtol=1e-4, atol=1e-5)
    assert model.predict(env.reset())[0].shape == (4, 1, 4, 4)
    model.learn(NUM_STEPS * 4)


@pytest.mark.gpu
def test_on_an_accelerator(make_env: MakeEnv, standard_normal: EpsMLP) -> None:
    model = make_model(make_env(device="cuda"))
    model.policy.to("cuda")
    obs = obs_as_tensor({k: v.numpy() for k, v in mixed_rows().items()}, torch.device("cuda"))
    assert model.policy.get_distribution(obs).mode().is_cuda


def test_noiseless_rows_are_refused(make_env: MakeEnv) -> None:
    with pytest.raises(ValueError, match=r"Steps \[0, 1, 2\] of the table 'ddim' have std 0"):
        make_model(make_env(sampler="ddim"))


def test_other_errors(make_env: MakeEnv) -> None:
    env = make_env()
    kwargs = denoising_policy_kwargs(env)
    with pytest.raises(ValueError, match="use_sde=False"):
        PPO(DenoisingActorCriticPolicy, env, use_sde=True, policy_kwargs=kwargs)
    with pytest.raises(TypeError, match="trainable denoiser"):
        PPO(DenoisingActorCriticPolicy, env, policy_kwargs={**kwargs, "denoiser": lambda x, time: x})
    with pytest.raises(ValueError, match="action_mode is 'residual'"):
        denoising_policy_kwargs(make_env(action_mode="residual"))
    with pytest.raises(ValueError, match="no shipped denoiser"):
        denoising_policy_kwargs(make_env(denoiser=None))


def test_stds_are_raised_to_the_least(env: DDPMShortcutVecEnv) -> None:
    wide, obs = make_model(env, **denoising_policy_kwargs(env, min_std=0.5)).policy, mixed_rows()
    row, narrow = env.table.rows(obs["step"], 1), pretrained_law(env, obs)
    law = wide.get_distribution(obs).distribution
    torch.testing.assert_close(row.action_scale * law.stddev, narrow.std.clamp(min=0.5).expand(-1, 2))
    assert (narrow.std < 0.5).any() and (narrow.std > 0.5).any()  # some are raised, some are not
    torch.testing.assert_close(law.mean, make_model(env).policy.get_distribution(obs).distribution.mean)
    with pytest.raises(ValueError, match=r"min_std must be a finite number >= 0.*received -1"):
        make_model(env, **denoising_policy_kwargs(env, min_std=-1))


def test_other_denoisers_are_asked_as_any(env: DDPMShortcutVecEnv) -> None:
    class Plain(nn.Module):
        """Any module: it knows no rows."""

        def __init__(self, net: EpsMLP) -> None:
            super().__init__()
            self.inner, self.shape, self.schedule = net, net.shape, net.schedule

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.inner(x, time)

    assert isinstance(env.denoiser, EpsMLP)
    obs, (ours, plain) = (
        mixed_rows(),
        (make_model(env, denoiser=net).policy for net in (env.denoiser, Plain(env.denoiser))),
    )
    torch.testing.assert_close(plain.get_distribution(obs).mode(), ours.get_distribution(obs).mode())
