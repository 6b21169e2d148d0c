"""The command that pretrains: any kind, path and prediction, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from agents.cli import main
from diffusion_env.denoisers.loading import read_denoiser

SMALL = "--num-updates 3 --batch-size 16 --width 8 --depth 1 --no-progress-bar --threads 1"


def pretrain(output: Path, words: str) -> int:
    return main(["pretrain", "--dataset", "moons", "--output", str(output), *SMALL.split(), *words.split()])


@pytest.mark.parametrize(
    ("schedule", "prediction"), [("cosine", "epsilon"), ("karras", "sample"), ("rectified_flow", "flow")]
)
def test_any_path_and_prediction(tmp_path: Path, schedule: str, prediction: str) -> None:
    assert pretrain(tmp_path / "net", f"--kind mlp --schedule {schedule} --prediction {prediction}") == 0
    network = read_denoiser(tmp_path / "net")
    assert (network.schedule.name, network.output, network.width) == (schedule, prediction, 8)
    env = gym.make("DDPMShortcut-v0", dataset="moons", denoiser=tmp_path / "net", num_steps=1, action_mode="residual")
    env.reset(seed=0)
    observation, *_ = env.step(np.zeros(2, np.float32))
    assert np.isfinite(observation["x"]).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--kind unet", r"Unknown kind of denoiser 'unet'. Choose one of ['mlp']"),
        ("--prediction noise", "Unknown prediction 'noise'"),
        ("--schedule edm", "Unknown noise schedule 'edm'"),
    ],
)
def test_unknown_names_are_one_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    assert pretrain(tmp_path / "net", words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "net.safetensors").exists()
