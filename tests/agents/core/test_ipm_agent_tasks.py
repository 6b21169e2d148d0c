"""The tasks an agent is made for, and those it refuses; what the user passes stays as it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from agents.algorithms.presets import AGENTS
from agents.core.rollout import elsewhere
from diffusion_env.critics import EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.pretraining import PretrainConfig, pretrain
from diffusion_env.samplers.schedules import make_schedule

MakeAgent = Callable[..., SFTPG]
SMALL = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1)


def test_images_from_a_file_train_end_to_end(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(3.0, 2.0, size=(200, 1, 8, 8))
    np.savez(tmp_path / "images.npz", x=points)
    dataset = load_dataset(tmp_path / "images.npz")
    network = pretrain(dataset, PretrainConfig(num_levels=100, num_updates=30, batch_size=64, width=16, depth=1))
    network.save(tmp_path / "network")
    keywords = {
        "dataset": str(tmp_path / "images.npz"),
        "denoiser": str(tmp_path / "network.safetensors"),
        "num_steps": 2,
    }
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=keywords, seed=0).learn(96, log_interval=1)
    assert agent.sample(5).shape == (5, 1, 8, 8)
    action, _ = agent.predict({"x": np.zeros((3, 1, 8, 8), np.float32), "step": np.array([0, 1, 0])})
    assert action.shape == (3, 1, 8, 8)
    assert agent.predict({"x": np.zeros((1, 8, 8), np.float32), "step": np.int64(1)})[0].shape == (1, 8, 8)
    loaded = SFTPG.load(agent.save(tmp_path / "agent"), trust_paths=True)
    assert torch.equal(loaded.sample(5, seed=0), agent.sample(5, seed=0))
    assert float(loaded.sample(200, seed=0).mean()) == pytest.approx(3.0, abs=1.0)  # data units


def test_a_data_set_without_a_denoiser_says_what_to_do(points_file: Path) -> None:
    with pytest.raises(ValueError, match=r"'points' has no shipped denoiser .*`ddpm-shortcut pretrain"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={"dataset": str(points_file)})


def test_residual_actions_are_refused(small_kwargs: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="acts in action_mode 'step'; received 'residual'"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_kwargs, "action_mode": "residual"})
    assert SFTPG(config=SMALL, num_envs=8, env_kwargs={**small_kwargs, "action_mode": "step"}).num_timesteps == 0


def test_other_environments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym, "make_vec", lambda env_id, num_envs, **kwargs: CartPoleVectorEnv(num_envs))
    with pytest.raises(TypeError, match="makes a CartPoleVectorEnv; agents train a DDPMShortcutVectorEnv"):
        SFTPG("CartPole-v1", SMALL, 2)


def test_objects_are_used_and_not_copied(make_agent: MakeAgent, gaussian: Dataset, denoiser: EpsMLP) -> None:
    critic = EnergyCritic((2,), width=16)
    agent = make_agent(critic=critic)
    assert agent.critic is critic and agent.pretrained is denoiser
    assert torch.equal(agent.envs.dataset.train[:], gaussian.train[:])


def test_no_seed_draws_one(make_agent: MakeAgent) -> None:
    first, second = (make_agent(seed=None) for _ in range(2))
    assert first.seed != second.seed and first.seed >= 0


# --- samplers without noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ["pathwise", "dxdp"])
def test_what_needs_no_density_trains_on_ddim(
    make_agent: MakeAgent, record: Callable[..., Any], small_config: Callable[..., Any], algo: str
) -> None:
    config = small_config(algo, n_critic=1, learning_rate=3e-3, ema_decay=0.5)
    agent: Any = make_agent(config, num_envs=64, algo=algo, critic=lambda x: x[..., 0], sampler="ddim")
    assert agent.policy.noiseless_steps == [0, 1, 2]
    lines = record(agent)
    before = agent.sample(500, seed=1)
    agent.learn(40 * 3 * 64, log_interval=20)
    assert agent.newest.log_prob is None
    assert all(np.isfinite(list(line.values())).all() for line in lines)
    assert not any("kl_to_pretrained" in name for name in lines[0])
    assert float((agent.sample(500, seed=1) - before)[:, 0].mean()) > 0.1
    with pytest.raises(ValueError, match="collected for an algorithm with needs_density = False"):
        _ = agent.newest.scored


@pytest.mark.parametrize("algo", [algo for algo in AGENTS if algo not in ("dxdp", "pathwise")])
def test_the_score_function_refuses_steps_without_density(
    make_agent: MakeAgent, small_config: Callable[..., Any], algo: str
) -> None:
    allowed = r"uses the log-probability of steps.*'ddim' has std 0 at step\(s\) \[0, 1, 2\].*min_std > 0.*eta > 0"
    with pytest.raises(ValueError, match=allowed):
        make_agent(algo=algo, sampler="ddim")
    assert make_agent(small_config(algo, min_std=0.05), algo=algo, sampler="ddim").iteration == 0


@pytest.mark.parametrize(("algo", "option"), [("pathwise", "kl_coef"), ("dxdp", "kl_coef"), ("dxdp", "entropy_coef")])
def test_a_density_asked_for_by_an_option_is_refused_too(
    make_agent: MakeAgent, small_config: Callable[..., Any], algo: str, option: str
) -> None:
    with pytest.raises(ValueError, match=f"{option} > 0.* has std 0"):
        make_agent(small_config(algo, **{option: 0.1}), algo=algo, sampler="ddim")
    assert make_agent(small_config(algo, **{option: 0.1}), algo=algo).iteration == 0


# --- what the user passes --------------------------------------------------------------------------------------------


def test_what_the_user_passes_is_not_changed(
    gaussian: Dataset, denoiser: EpsMLP, small_config: Callable[..., Any]
) -> None:
    denoiser.requires_grad_(False).eval()
    task = {"dataset": gaussian, "denoiser": denoiser, "num_steps": 3, "critic": EnergyCritic((2,), width=16)}
    given, config = dict(task), small_config("sft_pg", std="learned", kl_coef=0.1)
    weights = {name: weight.clone() for name, weight in denoiser.state_dict().items()}
    train = gaussian.train[:].clone()
    SFTPG("DDPMShortcut-v0", config, 8, task, seed=0).learn(2 * 48)
    assert task == given and config == small_config("sft_pg", std="learned", kl_coef=0.1)
    assert not any(weight.requires_grad for weight in denoiser.parameters()) and not denoiser.training
    assert all(torch.equal(weight, weights[name]) for name, weight in denoiser.state_dict().items())
    assert torch.equal(gaussian.train[:], train)


def test_a_module_elsewhere_is_seen() -> None:
    network = EpsMLP((2,), make_schedule("cosine", 50), 8, 1)
    assert elsewhere(network, torch.device("cpu")) is None
    assert elsewhere(network.to("meta"), torch.device("cpu")) == torch.device("meta")


def test_a_critic_on_another_device_is_refused_and_not_moved(make_agent: MakeAgent) -> None:
    critic = EnergyCritic((2,), width=16).to("meta")
    with pytest.raises(ValueError, match=r"'energy' is on meta, but the agent is on cpu.*critic.to\('cpu'\)"):
        make_agent(critic=critic)
    assert all(weight.is_meta for weight in critic.parameters())


@pytest.mark.gpu
def test_on_an_accelerator_the_denoiser_is_copied(gaussian: Dataset, denoiser: EpsMLP) -> None:
    task = {"dataset": gaussian, "denoiser": denoiser, "num_steps": 3}
    agent = SFTPG(config=SMALL, num_envs=8, env_kwargs=task, seed=0, device="cuda").learn(48)
    assert all(weight.is_cuda for weight in agent.policy.parameters())
    assert not any(weight.is_cuda for weight in denoiser.parameters()) and not gaussian.train[:].is_cuda
    with pytest.raises(ValueError, match="The critic 'energy' is on cpu, but the agent is on cuda"):
        SFTPG(config=SMALL, num_envs=8, env_kwargs={**task, "critic": EnergyCritic((2,))}, device="cuda")
