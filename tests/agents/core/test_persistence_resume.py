"""A run that is interrupted, saved, loaded and resumed ends bit for bit where the uninterrupted run ends (CPU)."""

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.algorithms.config import PolicyGradientConfig
from agents.algorithms.policy_gradient import SFTPG
from agents.core.learning import prepare

CONFIG = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1, ema_decay=0.5, learning_rate=1e-2)
NUM_ENVS, ITERATIONS = 8, 6
STEPS = 2 * 2 * NUM_ENVS * ITERATIONS  # K = 2 steps in small_kwargs, n_critic = 2
Keywords = dict[str, object]
Snapshot = dict[str, Any]
Everything = Callable[[SFTPG], Snapshot]
Differences = Callable[[Snapshot, Snapshot], list[str]]


class Killed(Exception):
    """Stands for whatever tears a run down."""


class SaveThenDie(BaseCallback):
    """Saves after iteration ``save_at`` and dies in the middle of iteration ``die_in`` (counted from 1)."""

    def __init__(self, path: Path, save_at: int, die_in: int) -> None:
        super().__init__()
        self.path, self.save_at, self.die_in = path, save_at, die_in

    def _on_rollout_end(self) -> None:
        if self.model.iteration == self.save_at:  # type: ignore[attr-defined]
            self.model.save(self.path)

    def _on_step(self) -> bool:
        if self.model.iteration == self.die_in - 1 and self.num_timesteps % (4 * NUM_ENVS) == 3 * NUM_ENVS:  # type: ignore[attr-defined]
            raise Killed
        return True


def new_agent(keywords: Keywords, critic: str, config: PolicyGradientConfig = CONFIG, seed: int = 0) -> SFTPG:
    return SFTPG(config=config, num_envs=NUM_ENVS, env_kwargs={**keywords, "critic": critic}, seed=seed)


def interrupted(agent: SFTPG, path: Path, save_at: int = 3, die_in: int = 5) -> SFTPG:
    with pytest.raises(Killed):
        agent.learn(STEPS, SaveThenDie(path, save_at, die_in), log_interval=1)
    resumed = SFTPG.load(path, trust_paths=True)
    assert resumed.iteration == save_at
    return resumed.resume()


@pytest.mark.parametrize("critic", ["energy", "baseline", "mmd", "gradient_penalty", "spectral_norm"])
def test_resume_equals_the_uninterrupted_run(
    everything: Everything, differences: Differences, small_kwargs: Keywords, critic: str, tmp_path: Path
) -> None:
    whole = everything(new_agent(small_kwargs, critic).learn(STEPS))
    resumed = interrupted(new_agent(small_kwargs, critic), tmp_path / "agent")
    assert resumed.iteration == ITERATIONS and resumed.num_timesteps == STEPS
    assert differences(everything(resumed), whole) == []
    # Negative controls: another seed, and the same run at another moment, differ in nearly everything.
    assert len(differences(everything(new_agent(small_kwargs, critic, seed=1).learn(STEPS)), whole)) > 15
    shorter = new_agent(small_kwargs, critic)
    shorter.learn(STEPS - 32)
    assert len(differences(everything(shorter), whole)) > 15


def test_resume_is_exact_with_minibatches(
    everything: Everything, differences: Differences, small_kwargs: Keywords, tmp_path: Path
) -> None:
    config = replace(CONFIG, minibatch_size=11, n_generator=3)
    whole = everything(new_agent(small_kwargs, "energy", config).learn(STEPS))
    resumed = interrupted(new_agent(small_kwargs, "energy", config), tmp_path / "agent")
    assert differences(everything(resumed), whole) == []


@pytest.mark.parametrize("forgotten", ["policy_optimizer", "value", "average"])
def test_negative_control_a_checkpoint_without_a_part_ends_elsewhere(
    everything: Everything,
    differences: Differences,
    small_kwargs: Keywords,
    tmp_path: Path,
    forgotten: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = everything(new_agent(small_kwargs, "energy").learn(STEPS))
    parts = SFTPG.parts

    def without(self: SFTPG) -> dict[str, Any]:
        return {name: part for name, part in parts.__get__(self).items() if name != forgotten}

    monkeypatch.setattr(SFTPG, "parts", property(without))
    resumed = interrupted(new_agent(small_kwargs, "energy"), tmp_path / "agent")
    monkeypatch.undo()
    assert differences(everything(resumed), whole)


def test_one_long_learn_equals_parts_that_are_joined_by_a_file(
    everything: Everything, differences: Differences, small_kwargs: Keywords, tmp_path: Path
) -> None:
    config = replace(CONFIG, lr_schedule="constant")
    whole = everything(new_agent(small_kwargs, "energy", config).learn(STEPS))
    first = new_agent(small_kwargs, "energy", config).learn(STEPS // 2)
    second = SFTPG.load(first.save(tmp_path / "half"), trust_paths=True)
    assert second.resume() is second and second.iteration == 3  # nothing was left to do
    second.learn(STEPS // 2, log_interval=2, reset_num_timesteps=False)
    assert differences(everything(second), whole) == []


SCRIPT = """
import os, signal, sys, torch
torch.set_num_threads(1)
from stable_baselines3.common.callbacks import BaseCallback
from agents import SFTPG, PolicyGradientConfig

class SaveThenDie(BaseCallback):
    def _on_rollout_end(self):
        self.model.save(sys.argv[1])
    def _on_step(self):
        if self.model.iteration == 4 and self.n_calls % 4 == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

config = PolicyGradientConfig(n_critic=2, value_width=16, value_depth=1, ema_decay=0.5, learning_rate=1e-2)
keywords = dict(dataset=sys.argv[2], denoiser=sys.argv[3], num_steps=2, critic="energy")
SFTPG(config=config, num_envs=8, env_kwargs=keywords, seed=0).learn(192, SaveThenDie(), log_interval=1)
"""


def test_a_killed_process_is_resumed_exactly(
    everything: Everything, differences: Differences, small_kwargs: Keywords, tmp_path: Path
) -> None:
    files = [tmp_path / "agent", small_kwargs["dataset"], small_kwargs["denoiser"]]
    command = [sys.executable, "-c", SCRIPT, *map(str, files)]
    died = subprocess.run(command, cwd=Path(__file__).resolve().parents[3], capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()
    resumed = SFTPG.load(tmp_path / "agent", trust_paths=True)
    assert resumed.iteration == 4
    resumed.resume()
    whole = new_agent(small_kwargs, "energy").learn(STEPS)
    assert differences(everything(resumed), everything(whole)) == []


def test_a_save_inside_an_episode_goes_on_with_new_episodes(small_kwargs: Keywords, tmp_path: Path) -> None:
    class SaveInside(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 7:  # the third iteration's second environment step is the second rollout's first
                self.model.save(tmp_path / "inside")
            return True

    agent = new_agent(small_kwargs, "energy").learn(STEPS, SaveInside())
    resumed = SFTPG.load(tmp_path / "inside", trust_paths=True)
    assert resumed.num_timesteps == 7 * NUM_ENVS
    critic = [w.clone() for w in resumed.critic.parameters()]
    prepare(resumed, STEPS, reset_num_timesteps=False)
    assert all(torch.equal(w, old) for w, old in zip(resumed.critic.parameters(), critic, strict=True))
    assert int(resumed.envs.process.k.max()) == 0
    assert resumed.resume().sample(10).isfinite().all()
    assert resumed.num_timesteps >= agent.num_timesteps


def test_an_interrupt_inside_an_episode_restarts_the_episodes(small_kwargs: Keywords) -> None:
    class Interrupt(BaseCallback):
        def _on_step(self) -> bool:
            if self.n_calls == 7:
                raise KeyboardInterrupt
            return True

    agent = new_agent(small_kwargs, "energy")
    with pytest.raises(KeyboardInterrupt):
        agent.learn(STEPS, Interrupt())
    assert int(agent.envs.process.k.max()) == 1  # in the middle
    agent.learn(STEPS, reset_num_timesteps=False, log_interval=1)
    assert float(agent.iterate()["train/ratio_error"]) < 1e-3
