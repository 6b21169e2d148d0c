"""What a saved algorithm is made from again."""

from dataclasses import replace
from typing import Any

import pytest

from agents.core.task import Task
from agents.runs.saving import run_header, saved_task
from diffusion_env.checkpoints import CheckpointError
from diffusion_env.data.dataset import Dataset

TASK = Task("moons", 3, critic_kwargs={"width": 8}, num_envs=5)


def test_the_task_comes_back_on_the_device_asked_for(gaussian: Dataset) -> None:
    header = run_header("ppo", TASK, 7, {"n_epochs": 2}, gaussian)
    assert (header.kind, header.name, header.config, header.extra["seed"]) == ("agent", "ppo", {"n_epochs": 2}, 7)
    assert {"python", "torch"} <= header.extra["versions"].keys()
    assert saved_task(header, None, "cuda:1", "file") == replace(TASK, device="cuda:1")
    assert saved_task(header, {"num_steps": 4}, "cpu", "file") == replace(TASK, num_steps=4)


def test_objects_are_asked_for(gaussian: Dataset) -> None:
    header = run_header("ppo", replace(TASK, dataset=gaussian), 7, {}, gaussian)
    with pytest.raises(CheckpointError, match=r"file was trained .* \['dataset'\]. Pass them again: .*dict\(dataset="):
        saved_task(header, None, "cpu", "file")
    assert saved_task(header, {"dataset": gaussian}, "cpu", "file").dataset is gaussian


@pytest.mark.parametrize(
    "extra", [{}, {"task": None}, {"task": {"colour": 1}}, {"task_objects": 3}, {"task": {"dataset": "moons"}}]
)
def test_another_header_is_refused(extra: dict[str, Any], gaussian: Dataset) -> None:
    header = run_header("ppo", TASK, 7, {}, gaussian)
    complete = {**header.extra, **extra} if extra else {}
    wrong = replace(header, extra=complete)
    if extra == {"task": {"dataset": "moons"}}:  # negative control: what is left out has its default
        assert saved_task(wrong, None, "cpu", "file") == Task("moons")
        return
    with pytest.raises(CheckpointError, match=r"header of file does not describe a task|file was not written by"):
        saved_task(wrong, None, "cpu", "file")
