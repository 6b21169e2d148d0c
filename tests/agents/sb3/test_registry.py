"""Every algorithm trains in both action modes; those that can, start at the pretrained sampler."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC
from torch import nn

from agents.sb3.policies import DenoisingActor, DenoisingActorCriticPolicy
from agents.sb3.registry import SB3_ALGORITHMS, make_sb3
from agents.sb3.relabelling import RelabellingReplayBuffer
from agents.sb3.samplers import sb3_sampler
from agents.sb3.vec_env import DDPMShortcutVecEnv

MakeEnv = Callable[..., DDPMShortcutVecEnv]
NUM_ENVS = 8


@pytest.mark.parametrize("mode", ["step", "residual"])
@pytest.mark.parametrize("name", SB3_ALGORITHMS)
def test_it_trains(keywords: dict[str, Any], name: str, mode: str) -> None:
    model, env = make_sb3(name, NUM_ENVS, {**keywords, "action_mode": mode}, seed=100)
    assert env.action_mode == mode
    before = [w.clone() for w in model.policy.parameters()]
    model.learn((15 if SB3_ALGORITHMS[name].off_policy else 60) * NUM_ENVS, log_interval=10_000)
    assert sb3_sampler(model)(50, 0).isfinite().all()
    assert not all(torch.equal(w, old) for w, old in zip(model.policy.parameters(), before, strict=True))
    in_actor_critic = not SB3_ALGORITHMS[name].off_policy and mode == "step"
    assert isinstance(model.policy, DenoisingActorCriticPolicy) == in_actor_critic


def test_ppo_takes_the_environment_s_id_as_it_stands() -> None:
    model = PPO("MultiInputPolicy", "diffusion_env:DDPMShortcut-v0", n_steps=32, n_epochs=1, device="cpu")
    model.learn(64)
    assert model.num_timesteps == 64


@pytest.mark.parametrize("name", ["ppo", "a2c", "trpo", "td3", "sac"])
def test_the_start_is_the_pretrained_sampler(keywords: dict[str, Any], name: str) -> None:
    """All five draw what a model of the same actions does that was never trained: the pretrained sampler's law."""
    model, _ = make_sb3(name, NUM_ENVS, keywords, seed=100)
    reference, _ = make_sb3("ppo", NUM_ENVS, keywords, seed=100)
    samples, wanted = sb3_sampler(model)(5_000, 0), sb3_sampler(reference)(5_000, 1)
    torch.testing.assert_close(samples.mean(0), wanted.mean(0), atol=0.08, rtol=0)
    torch.testing.assert_close(samples.T.cov(), wanted.T.cov(), atol=0.12, rtol=0)


def test_presets_prefer_a_mode_and_relabel(keywords: dict[str, Any]) -> None:
    modes = {name: make_sb3(name, NUM_ENVS, keywords)[1].action_mode for name in SB3_ALGORITHMS}
    assert modes == {"ppo": "step", "a2c": "step", "trpo": "residual", "sac": "residual", "td3": "residual"}
    model, _ = make_sb3("sac", NUM_ENVS, keywords)
    assert isinstance(model, SAC) and isinstance(model.replay_buffer, RelabellingReplayBuffer)
    assert model.replay_buffer.relabel


def test_seeds(keywords: dict[str, Any]) -> None:
    draws = [make_sb3("ppo", NUM_ENVS, keywords, seed=seed)[1].reset()["x"] for seed in (100, 100, 101)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


def test_hyperparameters_can_be_replaced(keywords: dict[str, Any], tmp_path: Any) -> None:
    model, _ = make_sb3("a2c", NUM_ENVS, keywords, tensorboard_log=str(tmp_path), hyperparameters={"n_steps": 3})
    assert vars(model)["n_steps"] == 3
    model.learn(48)
    assert list(tmp_path.rglob("events*"))


@pytest.mark.parametrize("name", ["ppo", "trpo", "a2c"])
def test_rollouts_are_whole_episodes_and_the_batch_all_of_them(name: str, keywords: dict[str, Any]) -> None:
    model = vars(make_sb3(name, NUM_ENVS, keywords, hyperparameters={"episodes": 4})[0])
    assert model["n_steps"] == 4 * keywords["num_steps"]
    assert name == "a2c" or model["batch_size"] == 4 * keywords["num_steps"] * NUM_ENVS


def test_step_sizes_fall_to_zero(keywords: dict[str, Any]) -> None:
    model, _ = make_sb3("a2c", NUM_ENVS, keywords, seed=100, hyperparameters={"n_steps": 3})
    model.learn(10 * 3 * NUM_ENVS)
    start = SB3_ALGORITHMS["a2c"].learning_rate
    assert 0 <= model.policy.optimizer.param_groups[0]["lr"] <= 0.11 * start


def test_unknown_names_and_missing_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"Unknown algorithm 'dqn'. Choose one of \['a2c', 'ppo', 'sac'"):
        make_sb3("dqn")
    monkeypatch.setitem(sys.modules, "sb3_contrib", None)
    with pytest.raises(ImportError, match=r"ddpm-shortcut\[contrib\]"):
        make_sb3("trpo")


def test_stds_belong_to_the_denoising_actor(keywords: dict[str, Any]) -> None:
    model, env = make_sb3("a2c", NUM_ENVS, keywords, hyperparameters={"min_std": 0.5, "learn_std": True})
    actor = model.policy.action_net
    assert isinstance(actor, DenoisingActor) and isinstance(actor.log_std, nn.Parameter)
    scale = env.table.rows(torch.arange(env.table.num_steps), 0).action_scale
    torch.testing.assert_close(actor.log_std.exp() * scale, env.table.std.clamp(min=0.5))
    for name, mode in (("a2c", "residual"), ("sac", "step")):
        with pytest.raises(ValueError, match=r"received \{'min_std': 0.5\}|received \{'learn_std': False, 'min_std'"):
            make_sb3(name, NUM_ENVS, {**keywords, "action_mode": mode}, hyperparameters={"min_std": 0.5})
