"""Callbacks watch and save a run; they never change it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents import SFTPG, preset
from agents.runs.callbacks import CURVE_SEED, Checkpoint, SamplerEvaluation, SamplerProgressBar
from agents.runs.folder import RunFolder
from diffusion_env.checkpoints import CheckpointError, load_checkpoint
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset

NUM_ENVS, ITERATION = 4, 4 * 2 * 5  # environments; environment steps of one iteration: K = 2, n_critic = 5
Keywords = dict[str, Any]


def make_agent(keywords: Keywords, seed: int = 0) -> SFTPG:
    config = preset("sft_pg", n_critic=5, n_critic_exponent=0.0)
    return SFTPG(config=config, num_envs=NUM_ENVS, env_kwargs=keywords, seed=seed)


def weights(agent: SFTPG) -> list[torch.Tensor]:
    return [p.detach().clone() for p in agent.policy.parameters()]


def equal(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


class At(BaseCallback):
    """Calls ``action`` in the middle of an iteration."""

    def __init__(self, iteration: int, action: Callable[[], bool]) -> None:
        super().__init__()
        self.step, self.action = iteration * ITERATION // NUM_ENVS + 3, action

    def _on_step(self) -> bool:
        return self.action() if self.n_calls == self.step else True


def interrupt() -> bool:
    raise KeyboardInterrupt


# --- SamplerEvaluation ---------------------------------------------------------------------------------------------


def test_evaluation_does_not_disturb_the_run(small_kwargs: Keywords) -> None:
    plain, watched, other = (make_agent(small_kwargs, seed) for seed in (0, 0, 1))
    plain.learn(4 * ITERATION)
    watched.learn(4 * ITERATION, SamplerEvaluation(ITERATION, num_samples=50))
    other.learn(4 * ITERATION)
    assert equal(weights(plain), weights(watched))
    assert torch.equal(plain.sample(3), watched.sample(3))
    assert not equal(weights(plain), weights(other))  # negative control: the comparison can fail


def test_evaluation_is_logged_over_time(small_kwargs: Keywords, tmp_path: Path) -> None:
    agent, folder = make_agent(small_kwargs), RunFolder.create(tmp_path / "run", {})
    agent.set_logger(folder.logger())
    evaluation = SamplerEvaluation(2 * ITERATION, num_samples=50)
    agent.learn(5 * ITERATION, evaluation)
    agent.logger.close()
    steps = [i * ITERATION for i in (0, 2, 4, 5)]  # the start, every second iteration, the end
    assert [m.num_timesteps for m in evaluation.history] == steps
    lines = [line for line in folder.metrics() if "eval/sw2" in line]
    assert [line["time/total_timesteps"] for line in lines] == steps
    assert [line["eval/sw2"] for line in lines] == [m.sw2 for m in evaluation.history]
    assert {"eval/off_support", "time/train_seconds", "time/train_cpu_seconds"} <= lines[0].keys()
    events = EventAccumulator(str(folder.path)).Reload()
    assert [event.step for event in events.Images("eval/samples")] == steps
    assert [event.step for event in events.Scalars("eval/sw2")] == steps


def test_sw2_sees_a_sampler_that_is_off(small_kwargs: Keywords) -> None:
    """Data itself scores far lower than data moved by one standard deviation."""
    agent = make_agent(small_kwargs)
    data = agent.envs.dataset

    def held_out(n: int, seed: int) -> torch.Tensor:
        return data.to_data(data.sample(n, torch.Generator().manual_seed(seed), held_out=True))

    right, wrong = (
        SamplerEvaluation(ITERATION, 200, sample=held_out),
        SamplerEvaluation(ITERATION, 200, sample=lambda n, seed: held_out(n, seed) + data.scale),
    )
    agent.learn(ITERATION, [right, wrong])
    assert right.history[0].sw2 < 0.3 * data.scale < 0.6 * data.scale < wrong.history[0].sw2


def test_curves_use_points_that_no_table_uses() -> None:
    assert CURVE_SEED not in EvaluationConfig().seeds
    assert CURVE_SEED >= 10_000


def test_a_diverged_sampler_is_named(small_kwargs: Keywords) -> None:
    evaluation = SamplerEvaluation(ITERATION, 50, sample=lambda n, seed: torch.full((n, 2), float("nan")))
    with pytest.raises(FloatingPointError, match="50 of 50 samples are NaN or infinite after 0 environment steps"):
        make_agent(small_kwargs).learn(ITERATION, evaluation)


def test_evaluation_serves_stable_baselines3(small_kwargs: Keywords, tmp_path: Path) -> None:
    env = gym.make("DDPMShortcut-v0", **small_kwargs)
    dataset: Dataset = env.unwrapped.dataset  # type: ignore[attr-defined]
    evaluation = SamplerEvaluation(8, 50, sample=lambda n, seed: dataset.fresh(n, seed), dataset=dataset)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, device="cpu")
    model.set_logger(configure(str(tmp_path), ["json"]))
    model.learn(16, [evaluation, SamplerProgressBar(evaluation)])
    assert [m.num_timesteps for m in evaluation.history] == [0, 8, 16]
    assert "eval/sw2" in (tmp_path / "progress.json").read_text()


# --- Checkpoint ----------------------------------------------------------------------------------------------------


def iteration_in(folder: Path) -> int:
    state, _ = load_checkpoint(folder / "checkpoint.safetensors")
    return int(state["counters"][1])


def test_a_killed_run_goes_on_exactly(small_kwargs: Keywords, tmp_path: Path) -> None:
    whole = make_agent(small_kwargs).learn(7 * ITERATION)
    with pytest.raises(KeyboardInterrupt):
        make_agent(small_kwargs).learn(7 * ITERATION, [Checkpoint(tmp_path, 2 * ITERATION), At(5, interrupt)])
    assert iteration_in(tmp_path) == 4  # nothing is written in the middle of iteration 5
    resumed = SFTPG.load(tmp_path / "checkpoint", trust_paths=True)
    before = weights(resumed)
    resumed.resume(Checkpoint(tmp_path, 2 * ITERATION))
    assert equal(weights(resumed), weights(whole))
    assert torch.equal(resumed.sample(5), whole.sample(5))
    assert not equal(before, weights(whole))  # negative control: there was something left to do
    assert iteration_in(tmp_path) == 7


def test_a_run_killed_in_its_first_iteration_can_be_resumed(small_kwargs: Keywords, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_agent(small_kwargs).learn(2 * ITERATION, [Checkpoint(tmp_path, 2 * ITERATION), At(0, interrupt)])
    resumed = SFTPG.load(tmp_path / "checkpoint", trust_paths=True).resume()
    assert equal(weights(resumed), weights(make_agent(small_kwargs).learn(2 * ITERATION)))


def test_a_run_stopped_by_a_callback_is_saved(small_kwargs: Keywords, tmp_path: Path) -> None:
    agent = make_agent(small_kwargs).learn(9 * ITERATION, [Checkpoint(tmp_path, 100 * ITERATION), At(5, lambda: False)])
    assert iteration_in(tmp_path) == 5
    assert equal(weights(SFTPG.load(tmp_path / "checkpoint", trust_paths=True)), weights(agent))


@pytest.mark.parametrize(("seconds", "written"), [(0.0, 3), (1e9, 0)])
def test_checkpoints_by_the_clock(small_kwargs: Keywords, tmp_path: Path, seconds: float, written: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_agent(small_kwargs).learn(9 * ITERATION, [Checkpoint(tmp_path, None, seconds), At(3, interrupt)])
    assert iteration_in(tmp_path) == written


def test_a_checkpoint_that_cannot_be_written(small_kwargs: Keywords, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="could not be written"):
        make_agent(small_kwargs).learn(ITERATION, Checkpoint(tmp_path / "file"))


@pytest.mark.parametrize("make", [lambda: SamplerEvaluation(0), lambda: Checkpoint("runs", 0)])
def test_intervals_below_one_are_refused(make: Callable[[], BaseCallback]) -> None:
    with pytest.raises(ValueError, match="every_timesteps must be an integer >= 1; received 0"):
        make()


# --- SamplerProgressBar --------------------------------------------------------------------------------------------


def test_the_bar_shows_the_newest_sw2(small_kwargs: Keywords) -> None:
    evaluation = SamplerEvaluation(2 * ITERATION, num_samples=50)
    bar = SamplerProgressBar(evaluation)
    make_agent(small_kwargs).learn(4 * ITERATION, [evaluation, bar])
    assert bar.pbar.desc == f"SW2 {evaluation.history[-1].sw2:.4f}: "
    assert bar.pbar.n == bar.pbar.total == 4 * ITERATION
    assert np.isfinite(evaluation.history[-1].sw2)
