"""The command line: every option both ways, every subcommand end to end, bad input in one paragraph."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import PRESETS, SFTPG, PolicyGradientConfig
from agents.cli import main, parse
from agents.commands.options import Demo, Evaluate, Options, Pretrain, Sample, Train
from agents.report import format_table, split_sampler
from agents.run_folder import RunFolder
from diffusion_env.checkpoints import load_checkpoint
from diffusion_env.denoisers import EpsMLP

ITERATION = 4 * 2 * 5  # environment steps: 4 environments, K = 2, n_critic = 5
REQUIRED: dict[type, list[str]] = {
    Demo: [],
    Pretrain: ["--output", "net"],
    Train: [],
    Evaluate: [],
    Sample: ["--checkpoint", "c", "--output", "s"],
}


def arguments(command: type) -> list[str]:
    return [command.__name__.lower(), *REQUIRED[command]]


def booleans(command: type) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every boolean option of a command, with where it stands in the dataclass."""
    for field in fields(command):
        default = field.default_factory() if callable(field.default_factory) else field.default
        if isinstance(default, bool):
            yield field.name, (field.name,)
        elif is_dataclass(default):
            yield from ((inner.name, (field.name, inner.name)) for inner in fields(default) if inner.type == "bool")


def value_at(options: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        options = getattr(options, name)
    return options


FLAGS = [(command, *flag) for command in REQUIRED for flag in booleans(command)]


def test_all_boolean_flags_are_found() -> None:
    assert {name for _, name, _ in FLAGS} == {"parallel", "progress_bar", "train_critic", "held_out_critic"}


@pytest.mark.parametrize(("command", "name", "path"), FLAGS)
@pytest.mark.parametrize("wanted", [True, False])
def test_boolean_flags_work_both_ways(command: type, name: str, path: tuple[str, ...], wanted: bool) -> None:
    flag = f"--{'' if wanted else 'no-'}{name.replace('_', '-')}"
    assert value_at(parse([*arguments(command), flag]), path) is wanted


@pytest.mark.parametrize("command", REQUIRED)
def test_defaults_are_those_of_the_dataclasses(command: type) -> None:
    made = {Pretrain: {"output": Path("net")}, Sample: {"checkpoint": Path("c"), "output": Path("s")}}
    assert parse(arguments(command)) == command(**made.get(command, {}))


OTHER = {"lr_schedule": "constant", "minibatch_size": "7", "max_grad_norm": "None"}


@pytest.mark.parametrize("name", [field.name for field in fields(PolicyGradientConfig)])
@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_every_hyper_parameter_can_be_set_over_each_preset(preset: str, name: str) -> None:
    default = getattr(PRESETS[preset], name)
    text = OTHER.get(name) or str(default + 1 if isinstance(default, int) else default / 2 + 0.125)
    options = parse(["train", "--preset", preset, f"--{name.replace('_', '-')}", text])
    assert isinstance(options, Train)
    assert str(getattr(options.algorithm, name)) in (text, str(float(text)) if text[0].isdigit() else text)
    others = [field.name for field in fields(PolicyGradientConfig) if field.name != name]
    assert all(getattr(options.algorithm, other) == getattr(PRESETS[preset], other) for other in others)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets(preset: str) -> None:
    for form in (["--preset", preset], [f"--preset={preset}"]):
        options = parse(["train", *form])
        assert isinstance(options, Train)
        assert (options.preset, options.algorithm) == (preset, PRESETS[preset])


def test_help_shows_the_preset_it_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse(["train", "--preset", "paper", "--help"])
    assert stop.value.code == 0
    assert "5e-05" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["", *(command.__name__.lower() for command in REQUIRED)])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    assert stop.value.code == 0
    assert f"usage: ddpm-shortcut {command}".strip() in capsys.readouterr().out


HEAVY = ("torch", "stable_baselines3", "matplotlib", "sklearn", "ot", "tensorboard", "pandas")


def loaded_after(statement: str) -> list[str]:
    script = f"import sys\n{statement}\nprint(*[name for name in {HEAVY} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


def test_the_parser_imports_nothing_heavy() -> None:
    assert loaded_after("from agents.cli import parse\nparse(['train'])\nparse(['demo'])") == []


def test_negative_control_of_the_light_parser() -> None:
    assert "torch" in loaded_after("from agents import SFTPG")


# --- end to end ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image_world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A user's own .npz of small pictures, and the network pretrained on it from the command line."""
    folder = tmp_path_factory.mktemp("images")
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 8, 8), dtype=np.uint8)
    np.savez(folder / "images.npz", images)
    sizes = "--num-updates 3 --batch-size 8 --width 8 --num-levels 20"
    assert call("pretrain", "--dataset", folder / "images.npz", "--output", folder / "net", *sizes.split()) == 0
    return folder / "images.npz", folder / "net.safetensors"


def call(*words: object) -> int:
    return main([str(word) for word in words])


def train_words(dataset: Path, denoiser: Path, output: Path, iterations: int = 4) -> list[str]:
    sizes = f"--num-envs 4 --num-steps 2 --total-timesteps {iterations * ITERATION}"
    intervals = "--measure-every 2 --measure-samples 20 --checkpoint-every 2 --log-interval 1 --no-progress-bar"
    paths = f"--dataset {dataset} --denoiser {denoiser} --output {output}"
    return ["train", *paths.split(), *sizes.split(), *intervals.split()]


def test_pretrain_writes_a_network_that_says_where_it_comes_from(image_world: tuple[Path, Path]) -> None:
    assert EpsMLP.load(image_world[1]).shape == (1, 8, 8)
    _, metadata = load_checkpoint(image_world[1])
    assert metadata["dataset"] == "images"
    assert (metadata["pretrain"]["num_updates"], metadata["pretrain"]["width"]) == (3, 8)


def test_train_evaluate_and_sample_a_users_images(
    image_world: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, result, samples = tmp_path / "run", tmp_path / "result.json", tmp_path / "samples.npz"
    assert main([*train_words(*image_world, run), "--preset", "paper", "--gae-lambda", "0.5"]) == 0
    config = RunFolder(run).config
    assert config["command"].startswith("ddpm-shortcut train --dataset")
    assert (config["seed"], config["env_kwargs"]["num_steps"]) == (0, 2)
    assert (config["options"]["algorithm"]["minibatch_size"], config["options"]["algorithm"]["gae_lambda"]) == (
        128,
        0.5,
    )
    assert [line["time/iterations"] for line in RunFolder(run).metrics() if "time/iterations" in line] == [1, 2, 3, 4]

    sizes = "--seeds 0 1 --num-samples 20 --w1-samples 20 --samplers ddpm-5 ddim-2"
    assert call("evaluate", "--checkpoint", run, *sizes.split(), "--output", result) == 0
    written = json.loads(result.read_text())
    assert [row["name"] for row in written["rows"]] == ["DDPM-5", "DDIM-2", "SFT-PG-2"]
    assert written["floor"]["sw2_low"] <= written["floor"]["sw2_mean"] <= written["floor"]["sw2_high"]
    assert "floor" in capsys.readouterr().out

    assert call("sample", "--checkpoint", run, "--n", 7, "--output", samples) == 0
    drawn = np.load(samples)["x"]
    assert drawn.shape == (7, 1, 8, 8)
    np.testing.assert_array_equal(drawn, SFTPG.load(run / "checkpoint").sample(7, seed=0).numpy())


def test_evaluate_the_untouched_network_alone(
    points_file: Path, denoiser_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--dataset", points_file, "--denoiser", denoiser_file, "--samplers", "ddpm-3"]
    assert call(*words, "--seeds", 0, "--num-samples", 50) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0] != "-"] == ["sampler", "DDPM-3", "floor"]


def test_resume_equals_the_uninterrupted_run(points_file: Path, denoiser_file: Path, tmp_path: Path) -> None:
    for name in ("whole", "killed"):
        assert main([*train_words(points_file, denoiser_file, tmp_path / name), "--gae-lambda", "0.9"]) == 0
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    interrupt_in_iteration_3(killed)
    assert load_checkpoint(killed.checkpoint)[0]["counters"][1] == 2
    assert call("train", "--resume", killed.path) == 0
    assert killed.checkpoint.read_bytes() == whole.checkpoint.read_bytes()
    seconds = ("time/fps", "time/train_seconds", "time/train_cpu_seconds")
    lines = [[{k: v for k, v in line.items() if k not in seconds} for line in run.metrics()] for run in (whole, killed)]
    assert lines[0] == lines[1]


def interrupt_in_iteration_3(run: RunFolder) -> None:
    """Start the run in this folder anew, with its own options, and stop it as a kill would."""
    from agents.callbacks import Checkpoint, IterationCallback, SamplerEvaluation
    from agents.commands.train import recorded_options

    class Kill(IterationCallback):
        def _on_step(self) -> bool:
            if self.iteration == 3:
                raise KeyboardInterrupt
            return True

    options = recorded_options(run)
    agent = SFTPG("DDPMShortcut-v0", options.algorithm, options.num_envs, run.config["env_kwargs"], options.seed)
    agent.set_logger(run.logger())
    with pytest.raises(KeyboardInterrupt):
        agent.learn(options.total_timesteps, [SamplerEvaluation(2, 20), Checkpoint(run.path, 2), Kill()], 1)


def test_resume_of_a_finished_run_does_nothing(
    points_file: Path, denoiser_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_words(points_file, denoiser_file, tmp_path / "run", 1)) == 0
    before = (tmp_path / "run" / "progress.json").read_text()
    assert call("train", "--resume", tmp_path / "run") == 0
    assert "already trained to its end" in capsys.readouterr().out
    assert (tmp_path / "run" / "progress.json").read_text() == before


def test_runs_are_numbered(
    points_file: Path, denoiser_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = train_words(points_file, denoiser_file, Path("unused"), 1)
    del words[words.index("--output") : words.index("--output") + 2]
    assert main(words) == main(words) == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == ["sft_pg-points-2-1", "sft_pg-points-2-2"]


def test_a_fixed_critic_stays_as_it_is(points_file: Path, denoiser_file: Path, tmp_path: Path) -> None:
    states = []
    for flag in ("--no-train-critic", "--train-critic"):
        for iterations in (1, 3):
            run = tmp_path / f"{flag}{iterations}"
            assert main([*train_words(points_file, denoiser_file, run, iterations), flag]) == 0
            state = load_checkpoint(run / "checkpoint.safetensors")[0]["critic"]
            states.append(next(v for k, v in state.items() if k.endswith("weight")))
    assert (states[0] == states[1]).all()
    assert (states[2] != states[3]).any()  # negative control


# --- bad input -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(points_file: Path, denoiser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    assert main(train_words(points_file, denoiser_file, folder, 1)) == 0
    return folder


BAD: dict[str, tuple[str, str]] = {
    "unknown data set": ("train --dataset rolls", "neither a known name .* swiss_roll"),
    "unknown sampler": ("train {world} --sampler euler", "Unknown sampler 'euler'.*ddim"),
    "unknown critic": ("train {world} --critic judge", "judge.* energy"),
    "no steps": ("train {world} --num-steps 0", "num_steps must be .*received 0"),
    "no environments": ("train {world} --num-envs 0", "num_envs"),
    "no such device": ("train {world} --device abacus", "'abacus' cannot be used"),
    "no network": ("train --dataset {points}", "no shipped denoiser"),
    "folder taken": ("train {world} --output {run}", "already holds a run"),
    "nothing to resume": ("train --resume {folder}", "not a run that can be continued"),
    "resume with options": ("train --resume {run} --seed 1", "give no other option"),
    "no checkpoint": ("evaluate --checkpoint {folder}/none", "no checkpoint at"),
    "checkpoint of another kind": ("sample --checkpoint {denoiser} --output s", "holds 'no agent'"),
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
    "train --preset papers": "'default'.*'paper'",
    "train --preset": "--preset",
    "train --n-critic 0": "n_critic must be an integer >= 1; received 0",
    "train --total-timesteps 0": "--total-timesteps must be an integer >= 1; received 0",
    "train --measure-every 0": "--measure-every must be",
    "train --checkpoint-every 0": "--checkpoint-every must be",
    "train --log-interval 0": "--log-interval must be",
    "train --threads 0": "--threads must be",
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
        call("sample", "--checkpoint", "c", "--output", "s")


def test_interruption_has_its_own_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(options: Options, command: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("agents.commands.sample.run", interrupted)
    assert call("sample", "--checkpoint", "c", "--output", "s") == 130
    assert "Interrupted" in capsys.readouterr().err


# --- tables --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ddpm-100", ("ddpm", 100)), ("fastdpm_step-10", ("fastdpm_step", 10)), ("a-b-1", ("a-b", 1))],
)
def test_split_sampler(text: str, expected: tuple[str, int]) -> None:
    assert split_sampler(text) == expected


@pytest.mark.parametrize("text", ["ddpm", "ddpm-", "ddpm-ten", "ddpm--1x"])
def test_split_sampler_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="NAME-STEPS"):
        split_sampler(text)


def test_the_table_stands_beside_its_floor() -> None:
    row = {
        "name": "DDPM-10",
        "sw2_mean": 0.0368,
        "sw2_low": 0.03,
        "sw2_high": 0.04,
        "w1_mean": 0.05,
        "off_support": 0.06,
    }
    lines = format_table([row], {**row, "name": "floor", "sw2_mean": 0.0184, "sw2_low": None}).splitlines()
    assert lines[2].split() == ["DDPM-10", "3.68", "3.00", "...", "4.00", "2.00", "5.00", "6.00", "%"]
    assert lines[4].split() == ["floor", "1.84", "1.00", "5.00", "6.00", "%"]
