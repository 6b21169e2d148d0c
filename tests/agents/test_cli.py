"""Bad input ends in one paragraph and code 2."""

import os
import re
import shutil
import subprocess
import sys
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
    "unknown sampler": ("train {task} --sampler euler", "Unknown sampler 'euler'.*ddim"),
    "unknown critic": ("train {task} --critic judge", "judge.* energy"),
    "no steps": ("train {task} --num-steps 0", "num_steps must be .*received 0"),
    "groups that do not fit": (
        "train {task} --algo grpo --num-envs 12",
        "multiple of group_size = 8; .*num_envs = 12",
    ),
    "no environments": ("train {task} --num-envs 0", "num_envs"),
    "no such device": ("train {task} --device abacus", "'abacus' cannot be used"),
    "no network": ("train --dataset {points}", "no shipped denoiser"),
    "folder taken": ("train {task} --output {run}", "already holds a run"),
    "nothing to resume": ("train --resume {folder}", "not a run that can be continued"),
    "resume with options": ("train --resume {run} --seed 1", "give no other option"),
    "no checkpoint": ("evaluate --checkpoint {folder}/none", "no checkpoint at"),
    "checkpoint of another kind": ("sample --checkpoint {denoiser} --output s", "holds 'denoiser', but a.*agent"),
    "truncated checkpoint": ("sample --checkpoint {truncated} --output s", "truncated, damaged"),
    "file with NaN": ("pretrain --dataset {nan} --output net", "NaN"),
    "file of the wrong rank": ("pretrain --dataset {flat} --output net", "rank|shape"),
    "output below a file": ("pretrain --dataset {points} --output {points}/net --num-updates 1", "points.npz"),
    "sampler without steps": ("evaluate {task} --samplers ddpm", "NAME-STEPS"),
    "untouched without a network": ("evaluate --dataset {points}", "no shipped network"),
    "sampler without a density": ("train {task} --sampler ddim", "min_std > 0 .*eta > 0"),
    "too few points": ("train {few} --output run", "Supply at least 30 points"),
    "critic keywords of another type": ("train {task} --critic-kwargs gamma=[1]", "gamma must be a finite number"),
    "critic keywords that are no JSON": ("train {task} --critic-kwargs gamma={{", "gamma must be a finite number"),
    "critic keywords without end": (
        "train {task} --critic-kwargs gamma=" + "[" * 10_000,
        "gamma must be a finite number",
    ),
    "a critic too wide": ("train {task} --critic-kwargs width=1000000", "width must be an integer in"),
    "an unknown hyper-parameter": ("train {task} --algo pathwise --set colour=1", "colour"),
    "a word for a number": ("train {task} --algo ppo --set n_epochs=abc", r"numbers for \['n_epochs'\]; received"),
    "a buffer too large": ("train {task} --algo sac --set buffer_size=10000000000000", "memory is not enough"),
    "a data set without a name": ("evaluate --dataset a/b/c", "neither a known name"),
    "output below a file too": ("train {task} --output {points}/run", "points.npz"),
    "demo without a network": ("demo --dataset {points}", "no shipped denoiser"),
}


@pytest.fixture
def places(points_file: Path, denoiser_file: Path, run: Path, tmp_path: Path) -> dict[str, str]:
    np.savez(tmp_path / "nan.npz", np.full((50, 2), np.nan))
    np.savez(tmp_path / "flat.npz", np.zeros(50))
    shutil.copy(run / "checkpoint.safetensors", tmp_path / "cut.safetensors")
    with (tmp_path / "cut.safetensors").open("r+b") as file:
        file.truncate(1_000)
    np.savez(tmp_path / "few.npz", np.random.default_rng(0).normal(size=(20, 2)))
    task = f"--dataset {points_file} --denoiser {denoiser_file}"
    return {
        "task": task,
        "few": f"--dataset {tmp_path / 'few.npz'} --denoiser {denoiser_file}",
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
    before = set(tmp_path.rglob("*"))
    assert main(words.format(**places).split()) == 2
    error = capsys.readouterr().err
    paragraph = error[error.index("Error:") :].strip()  # after a progress bar, if there is one
    assert "\n\n" not in paragraph and "Traceback" not in paragraph
    assert re.search(message, " ".join(paragraph.split())), paragraph
    assert set(tmp_path.rglob("*")) == before  # nothing is left behind


USAGE = {
    "": "subcommand",
    "fly": "demo, data, pretrain, train, evaluate, sample",
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
    "train --threads 0": "--threads must be an integer >= 1",
    "evaluate --critic mmd": "evaluate has no use for --critic: --samplers NAME-STEPS says what is walked",
    "evaluate --checkpoint c --dataset moons": "no use for --dataset: a checkpoint has its own task",
    "train --critic-kwargs gamma": "takes NAME=VALUE",
    "demo --total-timesteps 0": "--total-timesteps must be",
    "train --seed -1": "--seed must be .*received -1",
    "train --num-envs 0": "num_envs must be an integer >= 1; received 0",
    "train --num-steps -3": "num_steps must be an integer >= 1; received -3",
    "train --measure-samples 0": "--measure-samples must be .*received 0",
    "train --value-width 1000000": "value_width must be an integer in .*received 1000000",
    "train --value-depth 1000000": "value_depth must be an integer in .*received 1000000",
    "train --dataset= ": "dataset is an empty string",
    "pretrain --output net --width 1000000": "width must be None or an integer in .*received 1000000",
    "pretrain --output net --seed -1": "seed must be .*received -1",
    "pretrain --output net --num-updates 0": "num_updates must be an integer >= 1; received 0",
    "pretrain --output net --learning-rate nan": "learning_rate must be a finite number .*received nan",
    "sample --checkpoint c --output s --n 0": "--n must be .*received 0",
    "sample --checkpoint c --output s --seed -1": "--seed must be .*received -1",
    "evaluate --seeds -1": "seeds must be .*received",
    "tune --trials 0": "--trials must be an integer >= 1; received 0",
    "tune --num-samples 1": "--num-samples must be .*received 1",
    "evaluate --num-samples 1": "num_samples must be an integer in .* received 1",
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


def test_an_ascii_terminal_and_a_full_disk_get_a_sentence(run: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "agents.cli", "sample", "--checkpoint", str(run), "--n", "2000"]
    code = "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
    code += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); sys.argv = sys.argv[1:]; "
    code += "runpy.run_module('agents.cli', run_name='__main__')"
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONPATH": str(root)}
    full = [sys.executable, "-c", code, "x", *words[3:], "--output", "s\u00e9"]
    done = subprocess.run(full, capture_output=True, cwd=tmp_path, env=environment, text=True, errors="replace")
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert "could not be written" in " ".join(done.stderr.split())
    wrong = [*full[:-1], "s\u00e9", "--threads", "0"]
    shown = subprocess.run(wrong, capture_output=True, cwd=tmp_path, env=environment)
    assert shown.returncode == 2 and b"Traceback" not in shown.stderr and shown.stderr.isascii()
    assert not list(tmp_path.iterdir())
