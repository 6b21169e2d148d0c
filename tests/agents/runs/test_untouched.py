"""The pretrained sampler as an algorithm: the walk of its table, which learning does not change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agents.core.task import Task
from agents.runs.callbacks import Checkpoint, SamplerEvaluation
from agents.runs.untouched import Untouched
from agents.zoo import load_agent
from diffusion_env.config import EvaluationConfig
from diffusion_env.samplers.walk import sample
from diffusion_env.seeds import stream


def test_it_walks_the_task_s_table_with_the_task_s_network(small_task: Task) -> None:
    untouched = Untouched(small_task)
    x = sample(untouched.table, untouched.network, 7, stream(3, "sampling"))
    assert torch.equal(untouched.sample(7, 3), untouched.dataset.to_data(x))
    assert not torch.equal(untouched.sample(7, 4), untouched.sample(7, 3))
    other = Untouched(replace(small_task, sampler="ddim", num_steps=5))
    assert other.table.name == "ddim" and other.table.num_steps == 5


def test_it_is_measured_with_the_noise_of_the_protocol(small_task: Task) -> None:
    untouched, config = Untouched(small_task), EvaluationConfig(60, w1_samples=50, seeds=(0,), refit_steps=5)
    assert untouched.evaluate(config) == Untouched(small_task, seed=1).evaluate(config)


def test_learning_changes_nothing_and_callbacks_see_start_and_end(small_task: Task, tmp_path: Path) -> None:
    untouched, watch = Untouched(small_task), SamplerEvaluation(1, num_samples=50)
    before = untouched.sample(5, 0)
    untouched.learn(320, [watch, Checkpoint(tmp_path, 1)])
    assert torch.equal(untouched.sample(5, 0), before)
    assert [m.num_timesteps for m in watch.history] == [0, 320]
    assert watch.history[0].sw2 == watch.history[1].sw2
    assert (untouched.network_evaluations, untouched.critic) == (0, None)
    loaded = load_agent(tmp_path / "checkpoint")
    assert (loaded.name, loaded.num_timesteps, loaded.task) == ("untouched", 320, small_task)
    assert torch.equal(loaded.sample(5, 0), before)


def test_without_a_network_there_is_no_sampler(points_file: Path) -> None:
    with pytest.raises(ValueError, match=r"'points' has no shipped network. Pretrain one"):
        Untouched(Task(str(points_file), 2))
