"""What a header may say: fields of their types, an environment that is there, sizes that the file has, no paths."""

from typing import Any

import pytest
import torch

from agents.core.headers import AgentRecord, check_env_id, check_sizes, named_paths, refuse_paths, stored
from diffusion_env.checkpoints import CheckpointError

HEADER: dict[str, Any] = {
    "env_id": "DDPMShortcut-v0",
    "num_envs": 8,
    "env_kwargs": {"dataset": "moons"},
    "env_objects": [],
    "seed": 3,
    "versions": {"torch": "2"},
}


def test_a_sound_header_is_read() -> None:
    record = stored(AgentRecord, HEADER, "file")
    assert (record.env_id, record.num_envs, record.env_objects, record.seed) == ("DDPMShortcut-v0", 8, (), 3)


@pytest.mark.parametrize(
    ("name", "value"),
    [("env_id", 3), ("num_envs", 0), ("num_envs", "8"), ("env_kwargs", []), ("env_objects", "critic"), ("seed", None)],
)
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"file was not written by an algorithm's `save`: .*{name}"):
        stored(AgentRecord, {**HEADER, name: value}, "file")


@pytest.mark.parametrize("name", sorted(set(HEADER) - {"versions"}))
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        stored(AgentRecord, {key: value for key, value in HEADER.items() if key != name}, "file")


def test_only_environments_that_are_there_are_made() -> None:
    check_env_id("DDPMShortcut-v0", "file")
    for env_id in ("Nowhere-v0", "os:Nowhere-v0", "diffusion_env:DDPMShortcut-v0"):
        with pytest.raises(CheckpointError, match="not registered here"):
            check_env_id(env_id, "file")


def test_sizes_that_the_file_does_not_bear_out_are_refused() -> None:
    state = {"value": {"weight": torch.zeros(16, 8)}}
    check_sizes({"value_width": 16}, state, "file")
    with pytest.raises(CheckpointError, match="does not fit what the file holds"):
        check_sizes({"value_width": 1_000_000}, state, "file")


def test_paths_are_read_only_if_they_are_given_too() -> None:
    task = {"dataset": "/data/points.npz", "denoiser": "moons", "critic": "energy", "num_steps": 3}
    assert named_paths(task) == {"dataset": "/data/points.npz"}
    assert named_paths({"dataset": "moons"}) == named_paths(None) == named_paths({"dataset": "fashion_mnist"}) == {}
    assert named_paths({"dataset": "cifar10:/data"}) == {"dataset": "cifar10:/data"}
    refuse_paths(task, {"dataset": "/data/points.npz"}, "file")
    with pytest.raises(CheckpointError, match=r"names dataset='/data/points.npz'.*trust_paths"):
        refuse_paths(task, {}, "file")
