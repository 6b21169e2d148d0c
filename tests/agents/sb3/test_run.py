"""An algorithm of stable-baselines3 as any other: measured after its updates, saved without pickle, resumed."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from agents.core.task import Task
from agents.runs.callbacks import CURVE_SEED, Checkpoint, SamplerEvaluation
from agents.sb3.run import SB3Run
from agents.zoo import find, load_agent
from diffusion_env.checkpoints import CheckpointError, load_checkpoint
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.seeds import stream

NUM_ENVS, NUM_STEPS = 6, 3
EPISODES = NUM_ENVS * NUM_STEPS
SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"episodes": 1, "n_epochs": 1},
    "a2c": {"episodes": 1},
    "trpo": {"episodes": 1},
    "sac": {"train_freq": 1, "batch_size": 8, "buffer_size": 120},
    "td3": {"gradient_steps": 2, "policy_delay": 1, "batch_size": 8, "buffer_size": 120},
}
"""Few updates, and a replay buffer that has been filled once at the end."""

MakeRun = Callable[..., SB3Run]


@pytest.fixture
def make_run(keywords: dict[str, Any]) -> MakeRun:
    """``make_run(algo, seed, **changes)``."""
    task = Task(**{**keywords, "critic": "energy"}, num_envs=NUM_ENVS)

    def make(algo: str = "ppo", seed: int = 0, **changes: Any) -> SB3Run:
        made = find(algo).make(task, seed, {**SMALL[algo], **changes})
        assert isinstance(made, SB3Run)
        return made

    return make


class Kill(BaseCallback):
    """Interrupts in the middle of a rollout."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.at:
            raise KeyboardInterrupt
        return True


def parameters(run: SB3Run) -> list[torch.Tensor]:
    critic = run.critic.state_dict()
    return [w.detach().clone() for w in run.model.policy.parameters()] + [critic[name] for name in sorted(critic)[:4]]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, torch.Tensor))


def objects_of(run: SB3Run) -> dict[str, Any]:
    return {name: getattr(run.task, name) for name in run.task.objects}


# --- measuring -------------------------------------------------------------------------------------------------------


def test_on_policy_spacing(make_run: MakeRun) -> None:
    evaluation = SamplerEvaluation(2 * EPISODES - 1, num_samples=50)
    make_run().learn(5 * EPISODES, evaluation)
    assert [m.num_timesteps for m in evaluation.history] == [i * EPISODES for i in (0, 2, 4, 5)]


def test_off_policy_spacing(make_run: MakeRun) -> None:
    """A rollout is one step of each environment here."""
    evaluation = SamplerEvaluation(4 * NUM_ENVS, num_samples=50)
    make_run("sac").learn(9 * NUM_ENVS, evaluation)
    assert [m.num_timesteps for m in evaluation.history] == [i * NUM_ENVS for i in (0, 4, 8, 9)]


def test_a_point_of_the_curve_is_measured_after_the_updates_on_its_steps(make_run: MakeRun) -> None:
    run, evaluation = make_run(), SamplerEvaluation(EPISODES, num_samples=300)
    run.learn(3 * EPISODES, [evaluation, middle := Samples(run, at=2 * EPISODES)])

    def sw2(samples: torch.Tensor) -> float:
        directions = stream(evaluation.seed, "evaluation directions")
        return sliced_wasserstein(samples, evaluation.points.reference, directions, evaluation.config.num_projections)

    assert evaluation.history[2].sw2 == sw2(middle.after) != sw2(middle.before)
    assert evaluation.history[3].sw2 == sw2(run.sample(300, evaluation.seed))


class Samples(BaseCallback):
    """Draws when the rollout that reaches step ``at`` ends, and when the next one begins."""

    before: torch.Tensor
    after: torch.Tensor

    def __init__(self, run: SB3Run, at: int) -> None:
        super().__init__()
        self.run, self.at = run, at

    def _on_rollout_start(self) -> None:
        if self.model.num_timesteps == self.at:
            self.after = self.run.sample(300, CURVE_SEED)

    def _on_rollout_end(self) -> None:
        if self.model.num_timesteps == self.at:
            self.before = self.run.sample(300, CURVE_SEED)

    def _on_step(self) -> bool:
        return True


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_watched_run_is_the_run(make_run: MakeRun, algo: str) -> None:
    # One after the other: a model seeds the global generators when it is made.
    plain, watched, other = (
        parameters(make_run(algo).learn(rollouts * EPISODES, callback))
        for rollouts, callback in [(3, None), (3, SamplerEvaluation(EPISODES, num_samples=50)), (4, None)]
    )
    assert same(plain, watched)
    assert not same(plain, other)


def test_it_logs_the_agents_names_and_counts_training_alone(make_run: MakeRun, tmp_path: Path) -> None:
    watched, plain = make_run(), make_run()
    watched.set_logger(configure(str(tmp_path), ["csv", "tensorboard"]))
    watched.learn(EPISODES, SamplerEvaluation(EPISODES, num_samples=50), log_interval=1)
    header = (tmp_path / "progress.csv").read_text().splitlines()[0].split(",")
    wanted = {"eval/sw2", "eval/off_support", "time/train_seconds", "time/train_cpu_seconds", "rollout/ep_rew_mean"}
    assert wanted <= set(header)
    assert watched.network_evaluations == plain.learn(EPISODES).network_evaluations > 0


def test_an_iteration_is_what_lies_between_rollouts(make_run: MakeRun) -> None:
    runs = [make_run(episodes=2), make_run("sac", train_freq=2)]
    assert [run.iteration_timesteps for run in runs] == [2 * EPISODES, 2 * NUM_ENVS]
    task = replace(runs[0].task, num_envs=1)  # SB3 counts episodes in one environment alone
    assert find("sac").make(task, 0, {"train_freq": [2, "episode"]}).iteration_timesteps == 2 * NUM_STEPS


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_the_log_counts_iterations(make_run: MakeRun, tmp_path: Path, algo: str) -> None:
    """Off-policy too, where SB3 counts ended episodes: all environments end theirs at once."""
    run = make_run(algo, **({"train_freq": NUM_STEPS} if algo == "sac" else {}))
    run.set_logger(configure(str(tmp_path), ["json"]))
    run.learn(6 * EPISODES, log_interval=2)
    lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    assert [line["time/total_timesteps"] for line in lines] == [2 * EPISODES, 4 * EPISODES, 6 * EPISODES]


# --- saving and resuming ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", SMALL)
def test_a_killed_run_goes_on_to_the_bits_of_the_uninterrupted_one(
    make_run: MakeRun, tmp_path: Path, algo: str
) -> None:
    """On the CPU; weights, critic, samples and counts."""
    whole = make_run(algo).learn(8 * EPISODES)
    evaluations = whole.network_evaluations  # now: the counters of later runs share the one denoiser of the test
    killed = make_run(algo)
    every = max(killed.iteration_timesteps, EPISODES)
    with pytest.raises(KeyboardInterrupt):
        killed.learn(8 * EPISODES, [Checkpoint(tmp_path, every), Kill(5 * EPISODES + 1)])
    torch.manual_seed(99), np.random.seed(99)  # noqa: NPY002 - what happens in between must not matter
    resumed = load_agent(tmp_path / "checkpoint", env_kwargs=objects_of(whole))
    assert 0 < resumed.num_timesteps < whole.num_timesteps
    assert not same(parameters(resumed), parameters(whole))  # negative control: there is something left to do
    resumed.resume()
    assert resumed.num_timesteps == whole.num_timesteps
    assert resumed.network_evaluations == evaluations
    assert same(parameters(resumed), parameters(whole))
    assert torch.equal(resumed.sample(20, 3), whole.sample(20, 3))


def test_a_finished_run_has_nothing_left_and_can_be_saved_again(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run().learn(2 * EPISODES)
    loaded = load_agent(run.save(tmp_path / "first"), env_kwargs=objects_of(run))
    assert loaded.resume().num_timesteps == run.num_timesteps
    assert loaded.save(tmp_path / "second").read_bytes() == (tmp_path / "first.safetensors").read_bytes()


def test_the_file_holds_tensors_and_numbers_and_what_the_run_is_made_from(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("sac", gradient_steps=3).learn(4 * NUM_ENVS)
    _, header = load_checkpoint(run.save(tmp_path / "run"))
    assert (header["kind"], header["name"], header["seed"]) == ("agent", "sac", 0)
    assert header["config"] == {**SMALL["sac"], "gradient_steps": 3}
    assert header["task_objects"] == ["denoiser", "dataset"] and header["task"]["num_steps"] == NUM_STEPS
    loaded = load_agent(tmp_path / "run", env_kwargs=objects_of(run))
    assert loaded.model.gradient_steps == 3 and loaded.model.replay_buffer.pos == 4


def test_what_does_not_fit_is_said_in_a_sentence(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run().learn(EPISODES)
    path = run.save(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"objects that could not be saved: \['dataset', 'denoiser'\]"):
        load_agent(path)
    with pytest.raises(CheckpointError, match="does not fit this ppo"):
        load_agent(path, env_kwargs={**objects_of(run), "num_steps": 5})
    with pytest.raises(CheckpointError, match=r"does not describe a task.*no field \['colour'\]"):
        load_agent(path, env_kwargs={**objects_of(run), "colour": "red"})


def test_it_is_evaluated_like_an_agent(make_run: MakeRun) -> None:
    from diffusion_env.config import EvaluationConfig

    measured = make_run().evaluate(EvaluationConfig(num_samples=60, w1_samples=50, seeds=(0, 1), refit_steps=5))
    assert 0 < measured["sw2_low"] <= measured["sw2_mean"]
