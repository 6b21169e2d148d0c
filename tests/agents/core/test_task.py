"""A task is plain values: what the environment gets of it, and what JSON can hold."""

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents.core.task import Task, named_values
from diffusion_env.critics import EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP


def test_its_name_is_the_data_set_and_the_number_of_steps(gaussian: Dataset) -> None:
    names = [Task().name, Task("moons", 2).name, Task("deep/points.v1.npz", 5).name, Task(gaussian, 1).name]
    assert names == ["swiss_roll_k10", "moons_k2", "points.v1_k5", "gaussian_k1"]
    assert Task(Path("deep/points.npz"), 3).name == "points_k3"
    assert Task("cifar10:deep/cifar-10-python.tar.gz", 10).name == "cifar10_k10"


def test_the_environment_is_made_of_it(small_kwargs: dict[str, Any]) -> None:
    task = Task(**small_kwargs, critic="mmd", train_critic=False, num_envs=3)
    envs: Any = gym.make_vec("DDPMShortcut-v0", num_envs=task.num_envs, **task.env_kwargs)
    assert (envs.num_envs, envs.table.num_steps, envs.critic.name) == (3, 2, "mmd")


def test_keywords_that_say_nothing_are_left_out() -> None:
    assert Task().env_kwargs.keys() == {"dataset", "num_steps", "sampler", "critic", "train_critic"}
    assert Task(critic_kwargs={"gamma": 0.3}, denoiser="net").env_kwargs.keys() - Task().env_kwargs.keys() == {
        "critic_kwargs",
        "denoiser",
    }


def test_the_task_of_an_environment() -> None:
    task = Task("moons", 2, critic_kwargs={"width": 8}, num_envs=3, device="cuda")
    kwargs = {**task.env_kwargs, "render_mode": "rgb_array", "denoiser": None}
    assert Task.of_environment(kwargs, 3, "cuda") == task


def test_json_there_and_back() -> None:
    task = Task(Path("points.npz"), 3, critic_kwargs={"width": 8}, denoiser=Path("net"), device="cuda")
    read = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert read == Task("points.npz", 3, critic_kwargs={"width": 8}, denoiser="net", device="cuda")
    assert set(task.to_json()) == {f.name for f in fields(Task)}


def test_objects_are_named_where_json_is_needed(gaussian: Dataset, denoiser: EpsMLP) -> None:
    critic = EnergyCritic((2,), width=4)
    task = Task(gaussian, 3, denoiser=denoiser, critic=critic)
    assert task.objects == ["denoiser", "critic", "dataset"]
    with pytest.raises(ValueError, match=r"denoiser, critic, dataset can only be written.*'EpsMLP', 'EnergyCritic'"):
        task.to_json()
    read = Task.from_json(task.saved(), dataset=gaussian, denoiser=denoiser, critic=critic)
    assert (read.dataset, read.denoiser, read.critic, read.num_steps) == (gaussian, denoiser, critic, 3)


def test_unknown_fields_are_named() -> None:
    with pytest.raises(ValueError, match=r"no field \['colour'\]. Its fields are \['sampler'"):
        Task.from_json({"colour": "red"})


def test_a_task_is_hashable_and_frozen() -> None:
    assert len({Task("moons", 2), Task("moons", 2), Task("moons", 3)}) == 2
    with pytest.raises(AttributeError):
        Task().num_steps = 3  # type: ignore[misc]


def test_names_and_values() -> None:
    words = ["gamma=0.3", "width=512", "body=conv", "on=true", "text=a=b", "none=null", "list=[1, 2]"]
    assert named_values(words, "--fix") == {
        **{"gamma": 0.3, "width": 512, "body": "conv", "on": True, "text": "a=b", "none": None, "list": [1, 2]},
    }
    with pytest.raises(ValueError, match=r"--fix takes NAME=VALUE, such as n_critic=1; received \['gamma', '=3'\]"):
        named_values(["gamma", "=3", "a=", "b=1"], "--fix")


def test_it_does_not_wait_for_torch() -> None:
    script = "import sys, agents.core.task; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
