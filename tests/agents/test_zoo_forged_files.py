"""Forged files by every way in: environments, agents and commands refuse them in a sentence, without taking memory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from agents import SFTPG
from agents.cli import main
from agents.core.task import Task
from agents.zoo import find
from diffusion_env.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from diffusion_env.critics import make_critic
from diffusion_env.denoisers.dit import DiTDenoiser
from diffusion_env.denoisers.loading import read_denoiser
from diffusion_env.samplers.schedules import make_schedule
from tests.support import ENV_ID, MISSING, forged, seeded, small_network, small_unet

LARGE = {"pad": torch.zeros(8192), **{f"pad{i}": torch.zeros(1) for i in range(128)}}
"""Tensors with a side as long as the widest layer, as many as the deepest network has: 33 kB that ask for 34 GB."""
OF_ANY: dict[str, tuple[str, Any]] = {
    "no kind": ("kind", MISSING),
    "other kind": ("kind", "optimizer"),
    "a name that is a number": ("name", 3),
    "a name with a module": ("name", "os:system"),
    "a config that is a list": ("config", []),
    "a config without fields": ("config", {"\x00": None}),
}
OF_A_NETWORK: dict[str, tuple[str, Any]] = OF_ANY | {
    "huge shape": ("config shape", [2**31, 2**31]),
    "no shape": ("config shape", [0]),
    "huge width": ("config width", 2**40),
    "deep text": ("config depth", "deep"),
}
OF_AN_AGENT: dict[str, tuple[str, Any]] = OF_ANY | {
    "a module to import": ("env_id", "evil_module:Env-v0"),
    "an infinite number of environments": ("num_envs", float("inf")),
    "many environments": ("num_envs", 10**11),
    "keywords that are text": ("env_kwargs", "dataset"),
    "another data set": ("env_kwargs dataset", "/dev/zero"),
    "an unknown critic": ("env_kwargs critic", "../critic.safetensors"),
    "wide value": ("config value_width", 8192),
    "not a number": ("config learning_rate", float("nan")),
    "a seed below 0": ("seed", -1),
}
Files = Iterator[tuple[str, Path]]


def forgeries(path: Path, table: dict[str, tuple[str, Any]], sizes: list[str]) -> Files:
    """Each forgery of the whole file at ``path``, under one name after the other."""
    state, header = load_checkpoint(path)
    target = path.with_name("forged.safetensors")
    for name, (words, value) in table.items():
        yield name, save_checkpoint(target, state, forged(header, words.split(), value))
    for name, other in {"no state": None, "text": "state", "another state": {"weights": [1, 2]}}.items():
        yield name, save_checkpoint(target, other, header)
    for words, value in zip(sizes, (8192, 128), strict=True):
        header = forged(header, words.split(), value)
    yield "wide and deep", save_checkpoint(target, {**state, "weights": {**state.get("weights", {}), **LARGE}}, header)
    content = path.read_bytes()
    for name, damaged in {"half": content[: len(content) // 2], "empty": b"", "no such format": b"{}" * 40}.items():
        target.write_bytes(damaged)
        yield name, target


def agent_file(task: Task, folder: Path) -> Path:
    """An agent of a data set and a network with names, so that no file is refused for its paths alone."""
    named = Task("moons", 2, num_envs=4)
    return Path(find("sft_pg").make(named, 0).save(folder / "agent"))


def test_environments_refuse_forged_files(tmp_path: Path, points_file: Path) -> None:
    critic = make_critic("energy", (2,), kwargs={"width": 8, "depth": 1}).save(tmp_path / "critic")
    network = small_network().save(tmp_path / "network")
    make: dict[Path, Callable[[Path], Any]] = {
        critic: lambda path: gym.make(ENV_ID, dataset=points_file, critic=str(path)),
        network: lambda path: gym.make(ENV_ID, dataset=points_file, denoiser=str(path), action_mode="residual"),
    }
    for whole, made in make.items():
        made(whole)
        for name, path in forgeries(whole, OF_A_NETWORK, ["config width", "config depth"]):
            with pytest.raises(CheckpointError) as caught:
                made(path)
            assert "\n" not in str(caught.value), name


OF_A_UNET: dict[str, tuple[str, Any]] = {
    "huge channels": ("config architecture block_out_channels", [2**20, 2**20]),
    "channels below 0": ("config architecture block_out_channels", [-8, 8]),
    "no channels": ("config architecture block_out_channels", []),
    "a block to import": ("config architecture down_block_types", ["os:system", "DownBlock2D"]),
    "layers that are text": ("config architecture layers_per_block", "two"),
    "huge time embedding": ("config architecture time_embedding_dim", 2**40),
    "an architecture that is a list": ("config architecture", [1]),
}


@pytest.mark.parametrize("kind", ["dit", "unet"])
def test_networks_of_images_refuse_forged_files(kind: str, tmp_path: Path) -> None:
    if kind == "unet":
        pytest.importorskip("diffusers", reason="the extra images is not installed")
    shape, schedule = (1, 8, 8), make_schedule("cosine")
    network = small_unet() if kind == "unet" else DiTDenoiser(shape, schedule, 8, 1, seeded(0))
    whole = network.save(tmp_path / "network")
    read_denoiser(whole)
    table = OF_A_NETWORK | (OF_A_UNET if kind == "unet" else {})
    for name, path in forgeries(whole, table, ["config width", "config depth"]):
        with pytest.raises(CheckpointError) as caught:
            read_denoiser(path)
        assert "\n" not in str(caught.value), name


def test_agents_and_commands_refuse_forged_files(
    small_task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = agent_file(small_task, tmp_path)
    SFTPG.load(whole)
    commands = cycle([["sample", "--n", "3", "--output", str(tmp_path / "x.npz")], ["evaluate"]])
    for name, path in forgeries(whole, OF_AN_AGENT, ["config value_width", "config value_depth"]):
        with pytest.raises(CheckpointError):
            SFTPG.load(path)
        assert main([*next(commands), "--checkpoint", str(path)]) == 2, name
        error = capsys.readouterr().err
        assert error and "Traceback" not in error, name
    assert not (tmp_path / "x.npz").exists()


def test_a_resume_refuses_forged_files(small_task: Task, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    sizes = ["--num-steps", "2", "--num-envs", "4", "--total-timesteps", "1", "--measure-samples", "20"]
    assert main(["train", "--dataset", "moons", *sizes, "--no-progress-bar", "--output", str(folder)]) == 0
    checkpoint = folder / "checkpoint.safetensors"
    whole = checkpoint.rename(tmp_path / "whole.safetensors")
    capsys.readouterr()
    table = dict(list(OF_AN_AGENT.items())[::3])  # the resume loads as the commands above
    for name, path in forgeries(whole, table, ["config value_width", "config value_depth"]):
        checkpoint.write_bytes(path.read_bytes())
        assert main(["train", "--resume", str(folder)]) == 2, name
        error = capsys.readouterr().err
        assert error and "Traceback" not in error, name


UNDER_A_LIMIT = """
import resource, sys
from diffusion_env.checkpoints import CheckpointError
from diffusion_env.critics import load_critic, make_critic
from diffusion_env.denoisers.loading import read_denoiser
import torch

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**28,) * 2)
for load, path in zip((load_critic, read_denoiser), sys.argv[1:], strict=True):
    try:
        load(path)
    except CheckpointError as error:
        print("refused:", "weights" in str(error) or "too large" in str(error))
try:
    make_critic("energy", (2,), kwargs={"width": 8192, "depth": 128})
except ValueError as error:
    print("refused:", "weights" in str(error))
try:
    torch.empty(2**29)
except RuntimeError:
    print("limited")
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs the memory counts of Linux")
def test_no_memory_is_taken_for_what_a_header_promises(tmp_path: Path) -> None:
    whole = [
        make_critic("energy", (2,), kwargs={"width": 8, "depth": 1}).save(tmp_path / "critic"),
        small_network().save(tmp_path / "network"),
    ]
    paths = []
    for path in whole:
        state, header = load_checkpoint(path)
        header = forged(forged(header, ["config", "width"], 8192), ["config", "depth"], 128)
        state = {**state, "weights": {**state["weights"], **LARGE}} if "weights" in state else {**state, **LARGE}
        paths.append(save_checkpoint(path.with_name(f"forged_{path.name}"), state, header))
        assert paths[-1].stat().st_size < 2**22
    words = [sys.executable, "-c", UNDER_A_LIMIT, *map(str, paths)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.splitlines() == ["refused: True"] * 3 + ["limited"], done.stdout + done.stderr
