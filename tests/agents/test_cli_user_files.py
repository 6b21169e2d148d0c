"""An algorithm of a user is one file: every subcommand takes it by FILE:NAME, and no recorded name is imported."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import load_agent
from agents.cli import main
from agents.commands.train import recorded_options
from agents.core.algorithm import Algorithm
from agents.runs.folder import RunFolder
from diffusion_env.checkpoints import write_json

MY_PG = '''
from agents.core.ipm_agent import IPMAgent


class MyPG(IPMAgent):
    """Policy gradient; the mean score of the batch is the baseline."""

    uses_value = False

    def policy_loss(self, batch, advantage, first):
        xs, score = batch.xs, self.score(batch)
        log_prob = self.policy(xs[:-1], self.steps).log_prob(xs[1:])
        return -((score - score.mean()) * log_prob).mean(), {}
'''
MY_CONFIG = '''
from dataclasses import dataclass
from agents.core.config import AgentConfig
from my_file import MyPG


@dataclass(frozen=True)
class Powers(AgentConfig):
    power: float = 1.0
    """Of the score."""


class Scaled(MyPG):
    config_class = Powers
'''
MY_PPO = '''
from stable_baselines3 import PPO


class MyPPO(PPO):
    """PPO with another name."""
'''
MY_FIT = '''
import copy
from agents.core.spaces import Range
from agents.runs.untouched import Untouched


def fit(task, total_timesteps, seed, scale=0.9):
    """Shrink the weights of the pretrained network."""
    start = Untouched(task)
    network = copy.deepcopy(start.network)
    for weight in network.parameters():
        weight.data.mul_(scale)
    return start.table, network


fit.space = {"scale": Range(0.5, 1.0)}


def zeros(task, total_timesteps, seed):
    """A sampler without a network."""
    import torch

    return lambda n, seed: torch.zeros(n, 2)
'''
FILES = {"MyPG": MY_PG, "MyPPO": MY_PPO, "fit": MY_FIT}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, holding my_file.py with all three; it is not on the path but for being the current one."""
    assert all(len(text.split("def zeros")[0].strip().splitlines()) <= 15 for text in FILES.values())
    (tmp_path / "my_file.py").write_text("\n\n".join(FILES.values()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    yield tmp_path
    sys.modules.pop("my_file", None)


def call(*words: object) -> int:
    return main(" ".join(map(str, words)).split())


@pytest.fixture
def sizes(points_file: Path, denoiser_file: Path) -> str:
    return f"--dataset {points_file} --denoiser {denoiser_file} --num-steps 2 --num-envs 4 --total-timesteps 120"


TRAINING = "--measure-every 1 --measure-samples 20 --checkpoint-every 1 --no-progress-bar"


@pytest.mark.parametrize("name", FILES)
def test_train_resume_evaluate_sample_and_tune(
    name: str, folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    algo = f"--algo my_file:{name}"
    assert call("train", algo, sizes, TRAINING, "--output run") == 0
    assert load(name).num_timesteps >= 120
    interrupt(folder / "run")
    assert call("train --resume run", algo) == 0
    assert "SW2" in capsys.readouterr().out
    assert load(name).num_timesteps >= 240
    assert call("evaluate --checkpoint run --seeds 0 --num-samples 50 --w1-samples 20 --refit-steps 5", algo) == 0
    assert f"{name.upper()}-2" in capsys.readouterr().out
    assert call("sample --checkpoint run --n 6 --output drawn", algo) == 0
    np.testing.assert_array_equal(np.load("drawn.npz")["x"], load(name).sample(6, 0).numpy())
    tuning = "--trials 2 --num-samples 20 --seeds 1000 --output study"
    assert call("tune", algo, sizes, tuning) == 0
    best = json.loads(Path("study/best.json").read_text())
    assert best["problem"]["algo"] == f"my_file:{name}" and best["num_trials"] == 2
    repeat = best["repeat"].removeprefix("ddpm-shortcut ")
    assert call(repeat, TRAINING, "--output again") == 0


def load(name: str) -> Algorithm:
    found: Algorithm = load_agent("run", algorithms=[f"my_file:{name}"])
    return found


def interrupt(run: Path) -> None:
    """Make the finished run one that was interrupted half-way: twice as long, with the state it has."""
    from diffusion_env.checkpoints import load_checkpoint, save_checkpoint

    state, header = load_checkpoint(run / "checkpoint.safetensors")
    if "model" in state:
        state["model"]["counters"]["_total_timesteps"] *= 2
    elif "sampler" in state:
        state["counters"] = [0, 2 * state["counters"][1]]
    else:
        done, iteration, total = state["counters"]
        state["counters"] = [done, iteration, 2 * total]
    save_checkpoint(run / "checkpoint", state, header)


@pytest.mark.parametrize("name", FILES)
def test_without_the_name_in_the_call_nothing_is_imported(
    name: str, folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("train", f"--algo my_file:{name}", sizes, TRAINING, "--output run") == 0
    sys.modules.pop("my_file")
    needed = {
        "train --resume run": f"--algo my_file:{name}",
        "evaluate --checkpoint run": f"--algo my_file:{name}",
        "sample --checkpoint run --output s": f"--algo my_file:{name}",
    }
    for words, addition in needed.items():
        capsys.readouterr()
        assert call(words) == 2
        assert addition in " ".join(capsys.readouterr().err.split())
    assert recorded_options(RunFolder(Path("run"))).algo == f"my_file:{name}"
    assert "my_file" not in sys.modules


def test_a_forged_config_is_not_followed(folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train --algo ddpo", sizes, TRAINING, "--output run") == 0
    config = json.loads(Path("run/config.json").read_text())
    config["options"]["algo"] = "my_file:MyPG"
    write_json("run/config.json", config)
    assert call("train --resume run") == 2
    assert "a file never makes us import what it names" in " ".join(capsys.readouterr().err.split())
    assert "my_file" not in sys.modules


def test_a_sampler_that_no_file_can_hold(folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is trained and measured; the error comes with its checkpoint."""
    assert call("train --algo my_file:zeros", sizes, TRAINING, "--output run") == 2
    assert "zeros returned is a function (n, seed) -> samples, and a file holds no code" in " ".join(
        capsys.readouterr().err.split()
    )
    assert [line["time/total_timesteps"] for line in RunFolder(Path("run")).metrics()] == [0, 120]


def test_fields_of_a_user_s_configuration_are_flags(
    folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "my_config.py").write_text(MY_CONFIG)
    with pytest.raises(SystemExit):
        call("train --algo my_config:Scaled --help")
    assert "--power FLOAT" in capsys.readouterr().out
    assert call("train --algo my_config:Scaled", sizes, TRAINING, "--power 2 --output run") == 0
    assert call("train --algo my_config:Scaled --resume run") == 0
    loaded: Any = load_agent("run", algorithms=["my_config:Scaled"])
    assert loaded.config.power == 2.0
    sys.modules.pop("my_config")


def test_flags_and_values(folder: Path, sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A subclass of ours has the flags of its configuration; the others take --set."""
    for words in ("my_file:MyPG --learning-rate 0.5", "my_file:MyPPO --set learning_rate=0.5"):
        assert call("train", sizes, TRAINING, "--algo", words, "--output", words[8:12]) == 0
        assert "learning_rate = 0.5" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        call("train", sizes, "--algo my_file:MyPPO --learning-rate 0.5 --output no")
    assert call("train", sizes, "--algo my_file:fit --set size=1 --output no") == 2
    assert "fit has no hyper-parameter ['size']" in " ".join(capsys.readouterr().err.split())
    assert call("train", sizes, "--algo my_file:nothing --output no") == 2
    assert "'my_file' has no 'nothing'" in " ".join(capsys.readouterr().err.split())
    assert not Path("no").exists()
