"""The subcommand evaluate: which rows are measured, and what is written."""

import json
from pathlib import Path

import pytest

from agents.cli import main
from agents.commands.evaluate import loaded

SIZES = "--seeds 0 --num-samples 50 --w1-samples 20 --refit-steps 5"


def call(words: str) -> int:
    return main(f"evaluate {words} {SIZES}".split())


def names(printed: str) -> list[str]:
    """The first column of the printed table, without its header."""
    lines = [line.split()[0] for line in printed.splitlines() if line[0] != "-" and not line.startswith("Wrote")]
    return lines[1:]


def test_the_untouched_network_alone(
    points_file: Path, denoiser_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    task = f"--dataset {points_file} --denoiser {denoiser_file}"
    assert call(f"{task} --samplers ddpm-3") == 0
    assert names(capsys.readouterr().out) == ["DDPM-3", "floor"]
    monkeypatch.setattr("agents.commands.evaluate.BASELINES", ("ddim-2", "ddpm-4"))  # few steps
    assert call(task) == 0
    assert names(capsys.readouterr().out) == ["DDIM-2", "DDPM-4", "floor"]


def test_a_trained_sampler_beside_others_and_the_floor(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"--checkpoint {checkpoint} --trust-paths") == 0
    assert names(capsys.readouterr().out) == ["DDPO-2", "floor"]
    output = tmp_path / "result.json"
    assert call(f"--checkpoint {checkpoint} --trust-paths --samplers ddim-2 --output {output}") == 0
    assert names(capsys.readouterr().out) == ["DDIM-2", "DDPO-2", "floor"]
    written = json.loads(output.read_text())
    assert [row["name"] for row in written["rows"]] == ["DDIM-2", "DDPO-2"]
    assert written["floor"]["num_steps"] is None and written["evaluation"]["num_samples"] == 50
    assert written["command"].startswith("ddpm-shortcut evaluate --checkpoint") and "torch" in written["versions"]


def test_a_file_is_loaded_on_the_device_asked_for(checkpoint: Path) -> None:
    assert loaded(checkpoint, "cpu", None, trust_paths=True).name == "ddpo"
    with pytest.raises(ValueError, match="'abacus' cannot be used here"):
        loaded(checkpoint, "abacus", None, trust_paths=True)
