"""Tuning: the preset first, seeds of its own, exact resume, and a command whose result is a configuration."""

import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.algorithms.presets import PRESETS, preset
from agents.cli import main, parse
from agents.commands import tune
from agents.commands.options import Train, Tune
from agents.tuning import study as tuning
from agents.tuning.study import Study, start_and_space
from agents.tuning.trials import Problem, final_sw2, trial_value, untouched_sw2

MakeProblem = Callable[..., Problem]
Trials = list[dict[str, Any]]


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies take no training: SW2 is least at the largest step size."""

    def sw2(problem: Problem, changes: Mapping[str, Any]) -> list[float | None]:
        return [1e-3 / changes["learning_rate"]] * len(problem.seeds)

    monkeypatch.setattr(tuning, "final_sw2", sw2)


def quiet(trial: dict[str, Any]) -> None:
    return None


@pytest.mark.parametrize("algo", ["sft_pg", "dxdp", "pathwise", "ppo"])
def test_the_preset_is_the_first_trial(algo: str, problem: MakeProblem, tmp_path: Path) -> None:
    study = Study(problem(algo, 1), tmp_path / "study")
    study.run(2, on_trial=quiet)
    first, second = study.finished
    start, _ = start_and_space(study.problem)
    assert (first["number"], {name: first["changes"][name] for name in start}) == (0, start)
    assert second["changes"] != first["changes"]
    assert study.best["value"] <= first["value"] == trial_value(final_sw2(study.problem, {}), study.untouched)


@pytest.mark.usefixtures("invented")
@pytest.mark.parametrize("stopped", [0, 11])  # optuna's model of the trials begins at the tenth
def test_an_interrupted_study_becomes_the_uninterrupted_one(
    stopped: int, problem: MakeProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Study(problem(), tmp_path / "whole")
    whole.run(12, on_trial=quiet)
    Study(problem(), tmp_path / "part").run(stopped, on_trial=quiet)
    with monkeypatch.context() as inner, pytest.raises(KeyboardInterrupt):
        inner.setattr(tuning, "final_sw2", interrupted)
        Study(problem(), tmp_path / "part").run(12, on_trial=quiet)
    part = Study(problem(), tmp_path / "part")
    assert len(part.finished) == stopped
    part.run(12, on_trial=quiet)
    assert part.finished == whole.finished
    lines = (tmp_path / "part" / "trials.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == whole.finished
    other = Study(problem(), tmp_path / "other", seed=1)
    other.run(3, on_trial=quiet)
    assert other.finished[0] == whole.finished[0] and other.finished[1:] != whole.finished[1:3]


def interrupted(problem: Problem, changes: Mapping[str, Any]) -> list[float | None]:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("invented")
def test_a_finished_study_takes_no_more_trials_unless_asked(problem: MakeProblem, tmp_path: Path) -> None:
    seen: Trials = []
    for trials in (2, 2, 3):
        Study(problem(), tmp_path).run(trials, on_trial=seen.append)
    assert [trial["number"] for trial in seen] == [0, 1, 2]


@pytest.mark.usefixtures("invented")
def test_the_best_trial_is_the_one_with_the_least_value(problem: MakeProblem, tmp_path: Path) -> None:
    study = Study(problem(), tmp_path)
    study.run(6, on_trial=quiet)
    rates = [trial["changes"]["learning_rate"] for trial in study.finished]
    assert study.best["changes"]["learning_rate"] == max(rates) > rates[0]


@pytest.mark.usefixtures("invented")
def test_a_study_goes_on_only_as_it_began(problem: MakeProblem, tmp_path: Path) -> None:
    Study(problem(), tmp_path / "study")
    with pytest.raises(ValueError, match=r"began otherwise.*seeds was \[1000\] and is \[1000, 1001\]"):
        Study(problem(seeds=(1_000, 1_001)), tmp_path / "study")
    with pytest.raises(FileExistsError, match="no study"):
        Study(problem(), tmp_path)


@pytest.mark.usefixtures("invented")
def test_trials_side_by_side(problem: MakeProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def threads(processes: int) -> Iterator[Executor]:
        with ThreadPoolExecutor(processes) as pool:
            yield pool

    monkeypatch.setattr(tuning, "_executor", threads)
    seen: Trials = []
    study = Study(problem(), tmp_path)
    study.run(5, processes=2, on_trial=seen.append)
    assert sorted(trial["number"] for trial in seen) == [trial["number"] for trial in study.finished] == [*range(5)]
    assert len({json.dumps(trial["changes"]) for trial in seen}) == 5


def test_a_trial_can_be_sent_to_another_process(problem: MakeProblem) -> None:
    function, *arguments = pickle.loads(pickle.dumps((final_sw2, problem(), {"learning_rate": 0.0})))
    assert function(*arguments) == untouched_sw2(problem())


def words(small_world: dict[str, object], output: Path, *more: object) -> list[str]:
    sizes = "--num-steps 2 --num-envs 8 --trials 2 --total-timesteps 160 --num-samples 50 --seeds 1000"
    world = ["--dataset", small_world["dataset"], "--denoiser", small_world["denoiser"], "--output", output]
    return ["tune", *sizes.split(), *map(str, world), *map(str, more)]


@pytest.mark.parametrize("algo", ["pathwise", "ppo"])
def test_the_result_is_a_configuration(
    algo: str, small_world: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(small_world, tmp_path, "--algo", algo)) == 0
    best, printed = json.loads((tmp_path / "best.json").read_text()), capsys.readouterr()
    as_tuples = {name: tuple(best["problem"][name]) for name in ("seeds", "datasets", "num_steps")}
    problem = Problem(**best["problem"] | as_tuples)
    assert trial_value(final_sw2(problem, best["changes"]), best["untouched_sw2"]) == best["value"]
    assert best["value"] <= best["preset_value"]
    assert (best["num_trials"], best["num_diverged"], best["problem"]["total_timesteps"]) == (2, 0, 160)
    assert best["dimensions"] == list(start_and_space(problem)[1]) and "optuna" in best["versions"]
    assert best["repeat"] in printed.out and "preset" in printed.out and "trial 1" in printed.out
    assert printed.err == ""
    assert main(words(small_world, tmp_path, "--algo", algo)) == 0  # the same command goes on
    assert "holds 2 of 2 trials" in capsys.readouterr().out


@pytest.mark.parametrize("algo", PRESETS)
def test_the_printed_command_trains_with_the_changes(algo: str, problem: MakeProblem) -> None:
    kwargs = {"critic": "mmd", "train_critic": True}
    posed = Problem(algo, kwargs, 77, ("moons", "pinwheel"), (2, 4), held={"n_critic": 3}, num_envs=16)
    changes = {**start_and_space(posed)[0], "learning_rate": 0.00012345678901234567}
    worlds = [("moons", 2), ("moons", 4), ("pinwheel", 2), ("pinwheel", 4)]
    for world, line in zip(worlds, tune.repeat(posed, {"changes": changes}).splitlines(), strict=True):
        options = parse(line.split()[1:])
        assert isinstance(options, Train)
        assert (options.algo, options.algorithm) == (algo, preset(algo, **changes, n_critic=3))
        assert (options.critic, options.num_envs, options.total_timesteps) == ("mmd", 16, 77)
        assert (options.dataset, options.num_steps) == world


def test_every_option_reaches_the_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    class Recorded(Exception):
        pass

    def study(*arguments: Any) -> None:
        asked.extend(arguments)
        raise Recorded

    monkeypatch.setattr(tune, "Study", study)
    line = "--algo ppo --dataset moons --num-steps 3 1 --sampler fastdpm --critic mmd --num-envs 9 --total-timesteps 5"
    line += " --hold clip_range=0.3"
    more = f"--seeds 2000 2001 --seed 6 --num-samples 70 --output {tmp_path} --device meta --threads 3 --denoiser net"
    with pytest.raises(Recorded):
        main(["tune", *line.split(), *more.split()])
    kwargs = {"denoiser": "net", "sampler": "fastdpm", "critic": "mmd", "train_critic": True}
    expected = Problem("ppo", kwargs, 5, ("moons",), (3, 1), (2_000, 2_001), {"clip_range": 0.3}, 9, 70, "meta", 3)
    assert asked == [expected, tmp_path, 6]


BAD = {
    "an unknown algorithm": (["--algo", "alphago"], "Unknown algorithm 'alphago'"),
    "seeds of reported runs": (["--seeds", "0", "1"], "1000 ... 9999; received [0, 1]"),
    "an unknown hyper-parameter": (["--hold", "n_critics=1"], "no hyper-parameter ['n_critics'] to hold"),
    "a held word without a value": (["--hold", "n_critic"], "NAME=VALUE, such as n_critic=1; received ['n_critic']"),
    "one network for two data sets": (["--dataset", "moons", "pinwheel"], "on each of ['moons', 'pinwheel']. Leave"),
    "a data set twice": (["--dataset", "moons", "moons"], "datasets must be different names"),
    "a data set without a network": (["--dataset", "digits", "--denoiser", "None"], "no shipped denoiser"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_paragraph(
    case: str, small_world: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra, message = BAD[case]
    assert main([*words(small_world, tmp_path / "study"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split()) and "Traceback" not in error
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("name", ["trials", "total-timesteps", "num-envs", "processes", "threads"])
def test_counts_are_at_least_one(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(["tune", f"--{name}", "0"])
    assert f"--{name} must be an integer >= 1; received 0" in " ".join(capsys.readouterr().err.split())


def test_without_optuna_the_extra_is_named(
    small_world: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert main(words(small_world, tmp_path / "study")) == 2
    assert "pip install 'ddpm-shortcut[tune]'" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "study").exists()


def test_the_parser_does_not_wait_for_optuna() -> None:
    loaded = "'optuna' in sys.modules, 'torch' in sys.modules"
    script = f"import sys; from agents.cli import parse; parse(['tune']); print({loaded})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_defaults_are_those_of_the_dataclass() -> None:
    assert parse(["tune"]) == Tune()
