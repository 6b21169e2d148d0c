"""The subcommand tune: its result is a configuration, and a command that trains it."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.algorithms.presets import PRESETS, preset
from agents.cli import main, parse
from agents.commands import tune
from agents.commands.options import Train, Tune
from agents.core.task import Task
from agents.tuning.study import start_and_space
from agents.tuning.trials import Problem, final_sw2, trial_value


def words(small_kwargs: dict[str, object], output: Path, *more: object) -> list[str]:
    sizes = "--num-steps 2 --num-envs 8 --trials 2 --total-timesteps 160 --num-samples 50 --seeds 1000"
    keywords = ["--dataset", small_kwargs["dataset"], "--denoiser", small_kwargs["denoiser"], "--output", output]
    return ["tune", *sizes.split(), *map(str, keywords), *map(str, more)]


@pytest.mark.parametrize("algo", ["pathwise", "ppo"])
def test_the_result_is_a_configuration(
    algo: str, small_kwargs: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(small_kwargs, tmp_path, "--algo", algo)) == 0
    best, printed = json.loads((tmp_path / "best.json").read_text()), capsys.readouterr()
    tasks = tuple(map(Task.from_json, best["problem"]["tasks"]))
    problem = Problem(**best["problem"] | {"tasks": tasks, "seeds": tuple(best["problem"]["seeds"])})
    assert trial_value(final_sw2(problem, best["changes"]), best["untouched_sw2"]) == best["value"]
    assert best["value"] <= best["preset_value"]
    assert (best["num_trials"], best["num_diverged"], best["problem"]["total_timesteps"]) == (2, 0, 160)
    assert best["dimensions"] == list(start_and_space(problem)[1]) and "optuna" in best["versions"]
    assert best["repeat"] in printed.out and "preset" in printed.out and "trial 1" in printed.out
    assert printed.err == ""
    assert main(words(small_kwargs, tmp_path, "--algo", algo)) == 0  # the same command goes on
    assert "holds 2 of 2 trials" in capsys.readouterr().out


def posed(algo: str, **fixed: Any) -> Problem:
    shared: dict[str, Any] = {"critic": "mmd", "critic_kwargs": {"scale": 0.5}, "train_critic": False, "num_envs": 16}
    return Problem(
        algo, tuple(Task(name, k, **shared) for name in ("moons", "pinwheel") for k in (2, 4)), 77, fixed=fixed
    )


@pytest.mark.parametrize("algo", PRESETS)
def test_the_printed_command_trains_with_the_changes(algo: str) -> None:
    problem = posed(algo, n_critic=3)
    changes = {**start_and_space(problem)[0], "learning_rate": 0.00012345678901234567}
    for task, line in zip(problem.tasks, tune.repeat(problem, {"changes": changes}).splitlines(), strict=True):
        options = parse(shlex.split(line)[1:])
        assert isinstance(options, Train)
        assert (options.algo, options.algorithm) == (algo, preset(algo, **changes, n_critic=3))
        assert (options.task, options.total_timesteps) == (task, 77)


def test_the_printed_command_of_stable_baselines3_sets_the_changes() -> None:
    problem = posed("ppo", learn_std=True)
    changes = {**start_and_space(problem)[0], "learning_rate": 0.00012345678901234567}
    for task, line in zip(problem.tasks, tune.repeat(problem, {"changes": changes}).splitlines(), strict=True):
        options = parse(shlex.split(line)[1:])
        assert isinstance(options, Train)
        assert (options.algo, options.task, options.changes) == ("ppo", task, {**changes, "learn_std": True})


def test_every_option_reaches_the_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Recorded(Exception):
        pass

    def study(*arguments: Any) -> None:
        asked.extend(arguments)
        raise Recorded

    monkeypatch.setattr(tune, "Study", study)
    monkeypatch.setattr(tune, "usable_device", str)  # no other device need be here
    line = "--algo ppo --dataset moons --num-steps 3 1 --sampler fastdpm --critic mmd --num-envs 9 --total-timesteps 5"
    line += " --fix clip_range=0.3 --critic-kwargs scale=0.5 --no-train-critic"
    more = f"--seeds 2000 2001 --seed 6 --num-samples 70 --output {tmp_path} --device meta --threads 3 --denoiser net"
    with pytest.raises(Recorded):
        main(["tune", *line.split(), *more.split()])
    shared: dict[str, Any] = {"sampler": "fastdpm", "denoiser": "net", "critic": "mmd", "critic_kwargs": {"scale": 0.5}}
    shared |= {"train_critic": False, "num_envs": 9, "device": "meta"}
    tasks = tuple(Task("moons", k, **shared) for k in (3, 1))
    assert asked == [Problem("ppo", tasks, 5, (2_000, 2_001), {"clip_range": 0.3}, 70, 3), tmp_path, 6]


BAD = {
    "an unknown algorithm": (["--algo", "alphago"], "Unknown algorithm 'alphago'"),
    "seeds of reported runs": (["--seeds", "0", "1"], "1000 ... 9999; received [0, 1]"),
    "nothing to tune": (["--algo", "untouched"], "untouched has no hyper-parameter to tune"),
    "an unknown hyper-parameter": (["--fix", "n_critics=1"], "no hyper-parameter ['n_critics']. Choose from"),
    "a word without a value": (
        ["--fix", "n_critic"],
        "--fix takes NAME=VALUE, such as n_critic=1; received ['n_critic']",
    ),
    "one network for two data sets": (["--dataset", "moons", "pinwheel"], "on each of ['moons', 'pinwheel']. Leave"),
    "a data set twice": (["--dataset", "moons", "moons"], "must be different in their data sets"),
    "a data set without a network": (["--dataset", "digits", "--denoiser", "None"], "no shipped network"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_paragraph(
    case: str, small_kwargs: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra, message = BAD[case]
    assert main([*words(small_kwargs, tmp_path / "study"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("name", ["trials", "total-timesteps", "num-envs", "processes", "threads"])
def test_counts_are_at_least_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["tune", f"--{name}", "0"])
    except SystemExit as stop:  # the parser's own way out
        code = int(str(stop.code))
    assert code == 2
    error = " ".join(capsys.readouterr().err.split()).replace("-", "_")
    assert f"{name} must be an integer >= 1; received 0".replace("-", "_") in error


def test_without_optuna_the_extra_is_named(
    small_kwargs: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(words(small_kwargs, tmp_path / "study")) == 2
    assert "pip install 'ddpm-shortcut[tune]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "study").exists()


def test_the_parser_does_not_wait_for_optuna() -> None:
    loaded = "'optuna' in sys.modules, 'torch' in sys.modules"
    script = f"import sys; from agents.cli import parse; parse(['tune']); print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse(["tune"]) == Tune()
