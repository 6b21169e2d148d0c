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


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_networks_of_images(tmp_path: Path, kind: str) -> None:
    words = f"pretrain --dataset digits --output {tmp_path}/net --kind {kind} {SMALL}"
    assert main(words.split()) == 0
    network = read_denoiser(tmp_path / "net")
    assert (network.kind, network.shape, network.width, network.depth) == (kind, (1, 8, 8), 8, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--kind vit", r"Unknown kind of denoiser 'vit'. Choose one of ['dit', 'mlp', 'unet']"),
        ("--kind unet", r"events of shape (2,). It takes images"),
        ("--kind dit", r"events of shape (2,), but it takes images"),
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
