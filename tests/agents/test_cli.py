"""Bad input ends in one paragraph and code 2."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from agents.cli import main
from agents.commands.options import Options


@pytest.fixture(scope="module")
def run(points_file: Path, denoiser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    words = f"train --dataset {points_file} --denoiser {denoiser_file} --output {folder} --no-progress-bar"
    assert main(f"{words} --num-envs 4 --num-steps 2 --total-timesteps 1 --measure-samples 20".split()) == 0
    return folder


BAD: dict[str, tuple[str, str]] = {
    "unknown data set": ("train --dataset rolls", "neither a known name .* swiss_roll"),
    "unknown sampler": ("train {world} --sampler euler", "Unknown sampler 'euler'.*ddim"),
    "unknown critic": ("train {world} --critic judge", "judge.* energy"),
    "no steps": ("train {world} --num-steps 0", "num_steps must be .*received 0"),
    "groups that do not fit": (
        "train {world} --algo grpo --num-envs 12",
        "multiple of group_size = 8; .*num_envs = 12",
    ),
    "no environments": ("train {world} --num-envs 0", "num_envs"),
    "no such device": ("train {world} --device abacus", "'abacus' cannot be used"),
    "no network": ("train --dataset {points}", "no shipped denoiser"),
    "folder taken": ("train {world} --output {run}", "already holds a run"),
    "nothing to resume": ("train --resume {folder}", "not a run that can be continued"),
    "resume with options": ("train --resume {run} --seed 1", "give no other option"),
    "no checkpoint": ("evaluate --checkpoint {folder}/none", "no checkpoint at"),
    "checkpoint of another kind": ("sample --checkpoint {denoiser} --output s", "holds 'denoiser', but a.*agent"),
    "truncated checkpoint": ("sample --checkpoint {truncated} --output s", "truncated, damaged"),
    "no samples": ("sample --checkpoint {run} --output s --n 0", "at least 1; received 0"),
    "file with NaN": ("pretrain --dataset {nan} --output net", "NaN"),
    "file of the wrong rank": ("pretrain --dataset {flat} --output net", "rank|shape"),
    "output below a file": ("pretrain --dataset {points} --output {points}/net --num-updates 1", "points.npz"),
    "sampler without steps": ("evaluate {world} --samplers ddpm", "NAME-STEPS"),
    "untouched without a network": ("evaluate --dataset {points}", "no shipped network"),
    "demo without a network": ("demo --dataset {points}", "no shipped denoiser"),
}


@pytest.fixture
def places(points_file: Path, denoiser_file: Path, run: Path, tmp_path: Path) -> dict[str, str]:
    np.savez(tmp_path / "nan.npz", np.full((50, 2), np.nan))
    np.savez(tmp_path / "flat.npz", np.zeros(50))
    shutil.copy(run / "checkpoint.safetensors", tmp_path / "cut.safetensors")
    with (tmp_path / "cut.safetensors").open("r+b") as file:
        file.truncate(1_000)
    world = f"--dataset {points_file} --denoiser {denoiser_file}"
    return {
        "world": world,
        "points": str(points_file),
        "denoiser": str(denoiser_file),
        "run": str(run),
        "folder": str(tmp_path),
        "nan": str(tmp_path / "nan.npz"),
        "flat": str(tmp_path / "flat.npz"),
        "truncated": str(tmp_path / "cut.safetensors"),
    }


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_paragraph(
    case: str,
    places: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    words, message = BAD[case]
    assert main(words.format(**places).split()) == 2
    error = capsys.readouterr().err
    paragraph = error[error.index("Error:") :].strip()  # after a progress bar, if there is one
    assert "\n\n" not in paragraph and "Traceback" not in paragraph
    assert re.search(message, " ".join(paragraph.split())), paragraph
    assert not (tmp_path / "runs").exists()  # nothing is left behind


USAGE = {
    "": "subcommand",
    "fly": "demo, pretrain, train, evaluate, sample",
    "sample": "--checkpoint",
    "train --seed x": "--seed",
    "train --algo papers": "'sft_pg'.*'sft_pg_paper'.*'pathwise'",
    "train --algo": "--algo",
    "train --algo pathwise --gae-lambda 1": "--gae-lambda",
    "train --algo grpo --group-size 1": "group_size must be None or an integer >= 2; received 1",
    "train --algo ddpo --baseline group": "group_size is None",
    "train --algo dxdp --entropy-coef -1": "entropy_coef must be a finite number >= 0; received -1",
    "train --n-critic 0": "n_critic must be an integer >= 1; received 0",
    "train --total-timesteps 0": "--total-timesteps must be an integer >= 1; received 0",
    "train --measure-every 0": "--measure-every must be",
    "train --checkpoint-every 0": "--checkpoint-every must be",
    "train --log-interval 0": "--log-interval must be",
    "train --threads 0": "--threads must be",
    "evaluate --critic mmd": "evaluate has no use for --critic: --samplers NAME-STEPS says what is walked",
    "evaluate --checkpoint c --dataset moons": "no use for --dataset: a checkpoint has its own task",
    "train --critic-kwargs gamma": "takes NAME=VALUE",
    "demo --total-timesteps 0": "--total-timesteps must be",
    "evaluate --num-samples 1": "num_samples 1",
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_exits_with_code_2(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code: object
    try:
        code = main(words.split())
    except SystemExit as stop:  # the parser's own way out
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in error
    assert re.search(USAGE[words], " ".join(error.replace("│", " ").split())), error
    assert not list(tmp_path.iterdir())


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: Options, command: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("agents.commands.sample.run", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["sample", "--checkpoint", "c", "--output", "s"])


def test_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: Options, command: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.commands.sample.run", interrupted)
    assert main(["sample", "--checkpoint", "c", "--output", "s"]) == 130
    assert "Interrupted" in capsys.readouterr().err
