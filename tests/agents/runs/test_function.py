"""A bare function as an algorithm: the samplers it may return, and what of them a file can hold."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agents.core.policy import DenoisingPolicy
from agents.core.task import Task
from agents.runs.callbacks import Checkpoint, SamplerEvaluation
from agents.runs.untouched import Untouched
from agents.zoo import find, load_agent
from diffusion_env.checkpoints import CheckpointError
from diffusion_env.denoisers.mlp import EpsMLP


def trained(task: Task, total_timesteps: int, seed: int, scale: float = 0.5) -> Any:
    """A pair (step table, network): the task's own, its weights times ``scale``."""
    start = Untouched(task)
    network = copy.deepcopy(start.network)
    assert isinstance(network, nn.Module)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(scale)
    return start.table, network


def as_policy(task: Task, total_timesteps: int, seed: int) -> Any:
    table, network = trained(task, total_timesteps, seed)
    return DenoisingPolicy(network, table)


def as_function(task: Task, total_timesteps: int, seed: int) -> Any:
    def sample(n: int, seed: int) -> Tensor:
        return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed + total_timesteps))

    return sample


def larger(task: Task, total_timesteps: int, seed: int) -> Any:
    table, network = trained(task, total_timesteps, seed)
    return table, EpsMLP((2,), network.schedule, width=99, depth=1)


@pytest.mark.parametrize("function", [trained, as_policy])
def test_its_sampler_is_saved_and_loaded(function: Any, small_task: Task, tmp_path: Path) -> None:
    run = find(function).make(small_task, 0)
    assert torch.equal(run.sample(5, 1), Untouched(small_task).sample(5, 1))  # before it was called
    run.learn(100)
    assert not torch.equal(run.sample(5, 1), Untouched(small_task).sample(5, 1))
    loaded = load_agent(run.save(tmp_path / "run"), algorithms=[function], trust_paths=True)
    assert torch.equal(loaded.sample(5, 1), run.sample(5, 1))
    assert (loaded.num_timesteps, loaded.name, loaded.seed) == (100, function.__name__, 0)
    assert loaded.resume().num_timesteps == 100


def test_its_keywords_are_hyper_parameters(small_task: Task, tmp_path: Path) -> None:
    entry = find(trained)
    assert entry.defaults == {"scale": 0.5} and entry.settings({"scale": 1.0}) == {"scale": 1.0}
    run = entry.make(small_task, 0, {"scale": 1.0})
    run.learn(100)
    assert torch.equal(run.sample(5, 1), Untouched(small_task).sample(5, 1))
    loaded = load_agent(run.save(tmp_path / "run"), algorithms=[trained], trust_paths=True)
    assert loaded.settings == {"scale": 1.0}
    with pytest.raises(ValueError, match=r"trained has no hyper-parameter \['size'\]. Choose from \['scale'\]"):
        entry.make(small_task, 0, {"size": 1})


def test_a_function_may_be_a_sampler_and_cannot_be_saved(small_task: Task, tmp_path: Path) -> None:
    run = find(as_function).make(small_task, 0)
    watch = SamplerEvaluation(1, num_samples=50)
    run.learn(100, watch)
    assert [m.num_timesteps for m in watch.history] == [0, 100]
    assert torch.equal(run.sample(5, 1), as_function(small_task, 100, 0)(5, 1))
    with pytest.raises(
        CheckpointError, match=r"as_function returned is a function .* a file holds no code. To save it"
    ):
        run.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_network_of_another_build_cannot_be_saved(small_task: Task, tmp_path: Path) -> None:
    run = find(larger).make(small_task, 0)
    run.learn(100)
    assert run.sample(5, 1).shape == (5, 2)
    with pytest.raises(CheckpointError, match="not built as the task's denoiser"):
        run.save(tmp_path / "run")


@pytest.mark.parametrize("found", [None, 3, ("a", "b")])
def test_what_is_no_sampler_is_refused(found: Any, small_task: Task) -> None:
    def wrong(task: Task, total_timesteps: int, seed: int) -> Any:
        return found

    with pytest.raises(ValueError, match=f"wrong returned {type(found).__name__}, which is no sampler"):
        find(wrong).make(small_task, 0).learn(100)


def test_a_killed_run_begins_again(small_task: Task, tmp_path: Path) -> None:
    def interrupted(task: Task, total_timesteps: int, seed: int) -> Any:
        if not (tmp_path / "second").exists():
            raise KeyboardInterrupt
        return trained(task, total_timesteps, seed)

    with pytest.raises(KeyboardInterrupt):
        find(interrupted).make(small_task, 0).learn(100, Checkpoint(tmp_path, 1))
    (tmp_path / "second").touch()
    loaded = load_agent(tmp_path / "checkpoint", algorithms=[interrupted], trust_paths=True)
    assert loaded.num_timesteps == 0
    assert loaded.resume().num_timesteps == 100
    assert torch.equal(loaded.sample(5, 1), find(trained).make(small_task, 0).learn(100).sample(5, 1))
