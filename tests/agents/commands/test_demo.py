"""The demo, end to end on a budget of seconds: what it writes, and that a second one leaves the first alone."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.algorithms.config import PolicyGradientConfig
from agents.commands import demo
from agents.commands.demo import PICTURE_SEED, run
from agents.commands.options import BASELINES, Demo
from agents.core.ipm_agent import IPMAgent
from agents.core.task import Task
from agents.runs.callbacks import CURVE_SEED
from agents.zoo import load_agent
from diffusion_env.config import EvaluationConfig

EYES = {"auc_boosting", "auc_neighbours", "refitted_ipm"}
ROW = {"name", "num_steps", "sw2_mean", "sw2_low", "sw2_high", "w1_mean", "off_support", *EYES}


def small_demo(points_file: Path, denoiser_file: Path, output: Path, parallel: bool = False) -> Demo:
    return Demo(
        output=output,
        task=Task(str(points_file), 2, denoiser=str(denoiser_file), num_envs=4),
        total_timesteps=240,
        samplers=("ddpm-4", "ddim-2"),
        measure_every=2,
        parallel=parallel,
        progress_bar=parallel,
        algorithm=PolicyGradientConfig(value_width=8),
        evaluation=EvaluationConfig(num_samples=60, w1_samples=50, seeds=(0, 1), refit_steps=5),
    )


@pytest.fixture(scope="module")
def demos(points_file: Path, denoiser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a demo and of the one after it, which asked a second process to measure."""
    folder = tmp_path_factory.mktemp("runs") / "demo"
    for parallel in (False, True):
        run(small_demo(points_file, denoiser_file, folder, parallel), "ddpm-shortcut demo")
    return folder.with_name("demo-1"), folder


def result_in(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_the_result(demos: tuple[Path, Path]) -> None:
    result = result_in(demos[1])
    assert [row["name"] for row in result["rows"]] == ["DDPM-4", "DDIM-2", "SFT-PG-2"]
    assert [row["num_steps"] for row in result["rows"]] == [4, 2, 2]
    assert all(row.keys() == ROW for row in [*result["rows"], result["floor"]])
    assert all(0 < row["auc_boosting"] <= 1 and row["refitted_ipm"] is not None for row in result["rows"])
    assert all(row["sw2_low"] <= row["sw2_mean"] <= row["sw2_high"] for row in result["rows"])
    assert 0 < result["train_seconds"] <= result["wall_seconds"]
    assert result["train_cpu_seconds"] > 0
    assert {"python", "torch", "numpy"} <= result["versions"].keys()


def test_the_folder(demos: tuple[Path, Path]) -> None:
    for folder in demos:
        for picture in ("samples.png", "curve.png"):
            assert (folder / picture).read_bytes().startswith(b"\x89PNG")
        assert {"config.json", "progress.json", "checkpoint.safetensors"} <= {path.name for path in folder.iterdir()}
        assert list(folder.glob("events.out.tfevents.*"))


def test_a_second_process_measures_the_same(demos: tuple[Path, Path]) -> None:
    first, second = map(result_in, demos)
    assert (first["rows"], first["floor"]) == (second["rows"], second["floor"])


def killed(*arguments: Any) -> Any:
    """What a function that is called at the moment of the kill does."""
    raise KeyboardInterrupt


def kill(options: Demo, iterations: int = 100) -> None:
    """Run the demo and end it after so many iterations, or at the end of training."""
    left, iterate = iter(range(iterations)), IPMAgent.iterate

    def killed_after_some(agent: IPMAgent) -> Any:
        return killed() if next(left, None) is None else iterate(agent)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(demo, "CHECKPOINT_EVERY", 2)
        patch.setattr(IPMAgent, "iterate", killed_after_some)
        patch.setattr(demo, "trained_row", killed)
        run(options, "ddpm-shortcut demo")


def measured_in(folder: Path) -> list[tuple[int, float]]:
    """The learning curve in the log: environment steps and SW2."""
    lines = [json.loads(line) for line in (folder / "progress.json").read_text().splitlines()]
    return [(line["time/total_timesteps"], line["eval/sw2"]) for line in lines if "eval/sw2" in line]


@pytest.mark.parametrize("iterations", [0, 4], ids=["at the start", "in training"])
def test_the_same_command_goes_on_with_a_demo_that_was_killed(
    iterations: int, demos: tuple[Path, Path], points_file: Path, denoiser_file: Path, tmp_path: Path
) -> None:
    options = small_demo(points_file, denoiser_file, tmp_path / "demo")
    kill(options, iterations)
    assert measured_in(options.output) != measured_in(demos[0])
    kill(options)
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
    assert measured_in(options.output) == measured_in(demos[0])
    first, second = (load_agent(folder, trust_paths=True).sample(9, 0) for folder in (demos[0], options.output))
    assert torch.equal(first, second)


def test_one_that_was_killed_while_it_was_measured_ends_as_any_other_with_the_table(
    demos: tuple[Path, Path],
    points_file: Path,
    denoiser_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = small_demo(points_file, denoiser_file, tmp_path / "demo")
    kill(options)
    assert not (options.output / "result.json").exists()
    run(options, "ddpm-shortcut demo --parallel False")
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("DDPM-4", "DDIM-2", "SFT-PG-2", "floor", "off support", "CPU s"))
    found, wanted = result_in(options.output), result_in(demos[0])
    assert (found["rows"], found["floor"]) == (wanted["rows"], wanted["floor"])
    assert (options.output / "samples.png").exists() and found["train_seconds"] > 0


def test_a_demo_of_other_options_does_not_go_on_with_a_killed_one(
    points_file: Path, denoiser_file: Path, tmp_path: Path
) -> None:
    options = small_demo(points_file, denoiser_file, tmp_path / "demo")
    kill(options, 3)
    kill(replace(options, seed=1), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo", "demo-1"]
    assert measured_in(tmp_path / "demo") != measured_in(tmp_path / "demo-1")


def test_a_folder_that_is_no_run_is_left_alone(points_file: Path, denoiser_file: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(FileExistsError, match="never written over another"):
        run(small_demo(points_file, denoiser_file, tmp_path), "ddpm-shortcut demo")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_the_demo_compares_with_what_was_asked_for() -> None:
    demo = Demo()
    assert (demo.task.name, demo.output) == ("swiss_roll_k10", Path("runs/demo"))
    assert BASELINES == demo.samplers == ("ddpm-1000", "ddpm-100", "ddpm-10", "ddim-10")
    assert {CURVE_SEED, PICTURE_SEED}.isdisjoint(demo.evaluation.seeds)
