"""Files whose header was changed and signed again: loaded, or refused with a CheckpointError, by every public way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.cli import main
from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.zoo import find, load_agent
from diffusion_env.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from diffusion_env.critics import load_critic, make_critic
from diffusion_env.denoisers.loading import load_denoiser
from tests.support import MISSING, forged, refused, small_network

DEEP: Any = []
for _ in range(200):
    DEEP = [DEEP]
VALUES: dict[str, Any] = {
    "missing": MISSING,
    "null": None,
    "list": [1, None],
    "dict": {"a": {"b": []}},
    "text": "\x00../x",
    "huge": 10**12,
    "infinite": float("inf"),
    "negative": -1,
    "nested": DEEP,
}


def places(node: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every entry of a nested dict."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            if key != "versions":
                yield (*way, key)
                yield from places(value, (*way, key))


def trained(task: Task, total_timesteps: int, seed: int) -> Any:
    """A bare function that returns the task's own sampler."""
    run: Any = find("untouched").make(task, seed)
    return run.table, run.network


def name_of(algo: Any) -> str:
    """For the names of tests."""
    return algo if isinstance(algo, str) else "function"


def saved(algo: Any, task: Task, path: Path) -> tuple[Any, dict[str, Any]]:
    """State and header of a file after a short training."""
    run: Algorithm = find(algo).make(task, 0, {"buffer_size": 64} if algo == "sac" else {})
    return load_checkpoint(run.learn(1).save(path))


def load(path: Path) -> Any:
    """The algorithm in the file, of ours or the function above."""
    return load_agent(path, algorithms=[trained], trust_paths=True)


@pytest.mark.parametrize("algo", ["sft_pg", "sac", "ppo", trained], ids=name_of)
def test_no_header_of_an_algorithm_does_harm(algo: Any, small_task: Task, tmp_path: Path) -> None:
    state, header = saved(algo, small_task, tmp_path / "run")
    messages = []
    for number, way in enumerate(places(header)):
        for value in list(VALUES.values())[number % 4 :: 4]:  # every value, at a few entries each
            path = save_checkpoint(tmp_path / "forged", state, forged(header, way, value))
            messages.append(refused(lambda path=path: load(path)))  # type: ignore[misc]
    assert sum(map(bool, messages)) > len(messages) / 2
    assert not refused(lambda: load(tmp_path / "run"))  # as it was


@pytest.mark.parametrize("algo", ["sft_pg", "sac", trained], ids=name_of)
def test_no_state_of_an_algorithm_does_harm(algo: Any, small_task: Task, tmp_path: Path) -> None:
    state, header = saved(algo, small_task, tmp_path / "run")
    values = [MISSING, None, "x", torch.zeros(3), torch.zeros(0, dtype=torch.int64)]
    for number, way in enumerate(list(places(state))[:: 2 if algo is trained else 7]):
        for value in values[number % 2 :: 2]:
            path = save_checkpoint(tmp_path / "forged", forged(state, way, value), header)
            refused(lambda path=path: load(path))  # type: ignore[misc]


@pytest.mark.parametrize("name", ["energy", "mmd", "spectral_norm", "frozen"])
def test_no_header_of_a_critic_does_harm(name: str, tmp_path: Path) -> None:
    critic = make_critic("energy" if name == "frozen" else name, (2,), kwargs={} if name == "mmd" else {"width": 8})
    critic = make_critic(critic.save(tmp_path / "inner"), (2,)) if name == "frozen" else critic
    state, header = load_checkpoint(critic.save(tmp_path / "critic"))
    for way in places(header):
        for value in VALUES.values():
            path = save_checkpoint(tmp_path / "forged", state, forged(header, way, value))
            refused(lambda path=path: load_critic(path))  # type: ignore[misc]


def test_no_header_of_a_denoiser_does_harm(tmp_path: Path) -> None:
    state, header = load_checkpoint(small_network().save(tmp_path / "net"))
    for way in places(header):
        for value in VALUES.values():
            path = save_checkpoint(tmp_path / "forged", state, forged(header, way, value))
            refused(lambda path=path: load_denoiser(path, "own", (2,)))  # type: ignore[misc]


@pytest.mark.parametrize("algo", ["sft_pg", "ppo", "untouched"])
def test_a_path_in_a_file_is_read_only_if_the_user_says_so(
    algo: str, small_task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = find(algo).make(small_task, 0).save(tmp_path / "run")
    words = ["sample", "--checkpoint", str(path), "--output", str(tmp_path / "x"), "--n", "3"]
    with pytest.raises(CheckpointError, match=r"names dataset='.*', denoiser='.*', and a path .*only if you say so"):
        load_agent(path)
    assert main(words) == 2
    assert "--trust-paths" in capsys.readouterr().err and not (tmp_path / "x.npz").exists()
    given = {"dataset": small_task.dataset, "denoiser": small_task.denoiser}
    assert load_agent(path, env_kwargs=given).sample(3, 0).shape == (3, 2)
    assert load_agent(path, trust_paths=True).sample(3, 0).shape == (3, 2)
    assert main([*words, "--trust-paths"]) == 0
    with pytest.raises(CheckpointError, match=r"names denoiser='[^,]*', and a path"):
        load_agent(path, env_kwargs={"dataset": small_task.dataset})


def test_the_folder_of_an_own_run_needs_no_such_word_and_a_forged_file_in_it_does(
    small_task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keywords = ["--dataset", str(small_task.dataset), "--denoiser", str(small_task.denoiser), "--num-envs", "4"]
    sizes = ["--num-steps", "2", "--total-timesteps", "1", "--measure-samples", "20", "--no-progress-bar"]
    assert main(["train", *keywords, *sizes, "--output", str(tmp_path / "run")]) == 0
    assert load_agent(tmp_path / "run").sample(3, 0).shape == (3, 2)
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    state, header = load_checkpoint(checkpoint)
    elsewhere = str(tmp_path / "fifo")
    save_checkpoint(checkpoint, state, forged(header, ("env_kwargs", "dataset"), elsewhere))
    with pytest.raises(CheckpointError, match=f"names dataset='{elsewhere}', and a path"):
        load_agent(tmp_path / "run")
    capsys.readouterr()
    assert main(["train", "--resume", str(tmp_path / "run")]) == 2
    assert "is read only if you say so" in " ".join(capsys.readouterr().err.split())
