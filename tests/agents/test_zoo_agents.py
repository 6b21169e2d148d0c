"""What holds for every agent: few steps, finite metrics, six verbs, exact resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms.presets import AGENTS
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.zoo import agent_class, load_agent
from diffusion_env.evaluation.protocol import EvaluationConfig

MakeAgent = Callable[..., Any]
SmallConfig = Callable[..., AgentConfig]
Keywords = dict[str, object]
Snapshot = dict[str, Any]
Everything = Callable[[IPMAgent], Snapshot]
Differences = Callable[[Snapshot, Snapshot], list[str]]
OWN_METRICS = {
    "reinforce": {"policy_gradient_loss", "ratio_error"},
    "sft_pg": {"policy_gradient_loss", "ratio_error", "value_loss", "explained_variance"},
    "ddpo": {"policy_gradient_loss", "ratio_error", "clip_fraction", "approx_kl", "effective_sample_size"},
    "dpok": {"policy_gradient_loss", "ratio_error", "value_loss", "kl_penalty"},
    "grpo": {"policy_gradient_loss", "ratio_error", "clip_fraction", "kl_penalty"},
    "rwr": {"policy_gradient_loss", "ratio_error", "effective_sample_size"},
    "dxdp": {"value_gradient_loss", "entropy", "value_loss"},
    "pathwise": {"pathwise_loss"},
}


@pytest.mark.parametrize("algo", AGENTS)
@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_few_steps_train_and_log_finite_metrics(
    make_agent: MakeAgent, record: Callable[..., Any], algo: str, num_steps: int
) -> None:
    agent = make_agent(algo=algo, num_steps=num_steps)
    lines = record(agent)
    before = agent.sample(9, seed=0)
    agent.learn(2 * 2 * num_steps * 8, log_interval=1)
    assert [line["time/iterations"] for line in lines] == [1, 2]
    assert all(np.isfinite(list(line.values())).all() for line in lines), lines
    of_value = set() if agent.uses_value else {"value_loss", "explained_variance"}
    assert {f"train/{name}" for name in OWN_METRICS[algo] - of_value} <= lines[0].keys()
    assert [lines[1][f"sanity/{name}"] for name in ("gradient", "critic")] == [0, 0]
    assert float(lines[0].get("train/ratio_error", 0)) < 1e-3
    after = agent.sample(9, seed=0)
    assert after.isfinite().all() and not torch.equal(after, before)


def test_metrics_are_an_algorithm_s_own(make_agent: MakeAgent, record: Callable[..., Any]) -> None:
    """Negative control of the names above: what is not computed is not logged."""
    lines = record(agent := make_agent(algo="pathwise"))
    agent.learn(1, log_interval=1)
    others = set.union(*OWN_METRICS.values()) - OWN_METRICS["pathwise"]
    assert not {f"train/{name}" for name in others} & lines[0].keys()


@pytest.mark.parametrize("algo", AGENTS)
def test_the_verbs(small_kwargs: Keywords, small_config: SmallConfig, algo: str, tmp_path: Path) -> None:
    agent = agent_class(algo)(config=small_config(algo), num_envs=8, env_kwargs=small_kwargs, seed=0)
    assert agent.learn(1) is agent and agent.num_timesteps == 2 * 2 * 8
    observation = {"x": np.zeros((5, 2), np.float32), "step": np.array([0, 1, 0, 1, 0])}
    mean, _ = agent.predict(observation, deterministic=True)
    drawn, _ = agent.predict(observation)
    assert mean.shape == drawn.shape == (5, 2) and not np.array_equal(mean, drawn)
    assert agent.sample(7).shape == (7, 2)
    row = agent.evaluate(EvaluationConfig(num_samples=50, w1_samples=50, support_points=50, seeds=(0,), refit_steps=5))
    assert 0 < row["sw2_mean"] < 10
    path = agent.save(tmp_path / "agent")
    loaded = agent_class(algo).load(path, trust_paths=True)
    assert type(load_agent(path, trust_paths=True)) is type(loaded) is agent_class(algo)
    assert loaded.config == agent.config
    assert torch.equal(loaded.sample(7, seed=1), agent.sample(7, seed=1))


@pytest.mark.gpu
@pytest.mark.parametrize("algo", AGENTS)
def test_on_an_accelerator(small_kwargs: Keywords, small_config: SmallConfig, algo: str, tmp_path: Path) -> None:
    config = small_config(algo, std="learned", kl_coef=0.01)
    agent = agent_class(algo)(config=config, num_envs=8, env_kwargs=small_kwargs, seed=0, device="cuda")
    agent.learn(2 * 2 * 2 * 8, log_interval=1)
    assert agent.sample(7).is_cuda and bool(agent.sample(7).isfinite().all())
    loaded = load_agent(agent.save(tmp_path / "agent"), device="cuda")
    assert torch.equal(loaded.sample(7, seed=1), agent.sample(7, seed=1))


# --- resume ----------------------------------------------------------------------------------------------------------

STEPS = 4 * 2 * 2 * 8  # four iterations of n_critic = 2 rollouts of K = 2 steps


class SaveAndStop(BaseCallback):
    """Saves after the second iteration and stops inside the third."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.saved = path, False

    def _on_rollout_end(self) -> None:
        if self.num_timesteps == STEPS // 2:
            self.model.save(self.path)
            self.saved = True

    def _on_step(self) -> bool:
        return not self.saved


@pytest.mark.parametrize("algo", AGENTS)
def test_resume_is_exact(
    small_kwargs: Keywords,
    small_config: SmallConfig,
    everything: Everything,
    differences: Differences,
    algo: str,
    tmp_path: Path,
) -> None:
    config = small_config(algo, std="learned", kl_coef=0.01, ema_decay=0.5, n_generator=2)

    def new(seed: int = 0) -> IPMAgent:
        return agent_class(algo)(config=config, num_envs=8, env_kwargs=small_kwargs, seed=seed)

    whole = everything(new().learn(STEPS))
    new().learn(STEPS, SaveAndStop(tmp_path / "agent"))
    resumed = load_agent(tmp_path / "agent", trust_paths=True)
    assert resumed.iteration == 2
    halfway = everything(resumed)
    assert differences(everything(load_agent(tmp_path / "agent", trust_paths=True).resume()), whole) == []
    assert len(differences(halfway, whole)) > 15  # negative control: there was something left to do
