"""``learn`` and stable-baselines3's callbacks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.monitor import Monitor

from agents.algorithms.policy_gradient import SFTPG
from agents.core.learning import prepare, told

MakeAgent = Callable[..., SFTPG]
ITERATION = 2 * 3 * 8  # environment steps of make_agent's defaults


class Counter(BaseCallback):
    def __init__(self, stop_at: int | None = None) -> None:
        super().__init__()
        self.stop_at, self.events = stop_at, list[str]()

    def _on_training_start(self) -> None:
        self.events.append("start")

    def _on_rollout_start(self) -> None:
        self.events.append("[")

    def _on_step(self) -> bool:
        self.events.append(str(self.num_timesteps))
        return self.n_calls != self.stop_at

    def _on_rollout_end(self) -> None:
        self.events.append("]")

    def _on_training_end(self) -> None:
        self.events.append("end")


def test_callbacks_are_called_in_stable_baselines3_s_order(make_agent: MakeAgent) -> None:
    counter = Counter()
    agent = make_agent()
    assert agent.learn(ITERATION + 1, counter) is agent
    steps = [str(8 * (i + 1)) for i in range(12)]
    assert counter.events == ["start", "[", *steps[:6], "]", "[", *steps[6:], "]", "end"]
    assert counter.model is agent and counter.training_env is agent.get_env() is agent.envs
    assert agent.num_timesteps == 2 * ITERATION and agent.iteration == 2


def test_a_callback_that_says_no_stops_at_that_step(make_agent: MakeAgent) -> None:
    agent, counter = make_agent(), Counter(stop_at=8)
    agent.learn(10 * ITERATION, [counter])
    assert counter.events[-2:] == ["64", "end"]
    assert agent.num_timesteps == 64 and agent.iteration == 1
    agent.learn(ITERATION, reset_num_timesteps=False, log_interval=1)  # episodes start anew, from noise
    assert agent.num_timesteps == 64 + ITERATION
    assert float(agent.iterate()["train/ratio_error"]) < 1e-3


def test_a_second_learn_keeps_the_critic(make_agent: MakeAgent) -> None:
    agent = make_agent(critic="energy")
    agent.learn(2 * ITERATION, Counter(stop_at=8))
    weights = [w.clone() for w in agent.critic.parameters()]
    prepare(agent, 1)
    assert agent.num_timesteps == 0
    assert all(torch.equal(w, old) for w, old in zip(agent.critic.parameters(), weights, strict=True))


def test_max_episodes_counts_finished_samples(make_agent: MakeAgent) -> None:
    agent = make_agent()
    agent.learn(100 * ITERATION, StopTrainingOnMaxEpisodes(max_episodes=5))  # 5 per environment
    assert agent.num_timesteps == 5 * 3 * 8


def test_stable_baselines3_evaluates_and_keeps_the_best(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent()
    kwargs = {key: agent.env_kwargs[key] for key in ("dataset", "denoiser", "critic", "num_steps")}
    environment = Monitor(gym.make("DDPMShortcut-v0", train_critic=False, **kwargs))
    callback = EvalCallback(
        environment, eval_freq=6, n_eval_episodes=3, best_model_save_path=str(tmp_path), verbose=0, warn=False
    )
    with pytest.warns(UserWarning, match="not of the same type"):
        agent.learn(2 * ITERATION, callback)
    assert np.isfinite(callback.best_mean_reward)
    best = SFTPG.load(tmp_path / "best_model", env_kwargs=kwargs)
    assert best.sample(4).shape == (4, 2)


def test_checkpoint_callback(make_agent: MakeAgent, tmp_path: Path) -> None:
    agent = make_agent()
    agent.learn(2 * ITERATION, CheckpointCallback(save_freq=6, save_path=str(tmp_path), name_prefix="run"))
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["run_48_steps.safetensors", "run_96_steps.safetensors"]
    again = SFTPG.load(tmp_path / files[1], env_kwargs=agent.env_kwargs)
    assert again.num_timesteps == 96
    assert SFTPG.load(tmp_path / "run_96_steps.zip", env_kwargs=agent.env_kwargs).num_timesteps == 96


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_the_progress_bar_runs_to_the_end(make_agent: MakeAgent, capsys: pytest.CaptureFixture[str]) -> None:
    make_agent().learn(2 * ITERATION, progress_bar=True)
    out, err = capsys.readouterr()
    assert "96/96" in out + err


@pytest.mark.parametrize("total", [0, -5])
def test_no_steps_is_an_error(make_agent: MakeAgent, total: int) -> None:
    with pytest.raises(ValueError, match=f"total_timesteps must be at least 1 .* received {total}"):
        make_agent().learn(total)


def test_nothing_is_made_for_callbacks_that_are_not_there(make_agent: MakeAgent) -> None:
    agent, reward, seen = make_agent(), torch.tensor([1.0, 2.0]), list[dict[str, Any]]()
    assert told(agent.callbacks, True, reward.to("meta"), 3)  # not even read

    def stop(found: dict[str, Any], world: dict[str, Any]) -> bool:
        seen.append(dict(found))
        return False

    prepare(agent, 1, stop)
    assert not told(agent.callbacks, True, reward, 3)
    assert [info["episode"] for info in seen[0]["infos"]] == [{"r": 1.0, "l": 3}, {"r": 2.0, "l": 3}]
