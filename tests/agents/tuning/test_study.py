"""Tuning: the preset first, seeds of its own, and exact resume."""

import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

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

    monkeypatch.setattr(tuning, "workers", threads)
    seen: Trials = []
    study = Study(problem(), tmp_path)
    study.run(5, processes=2, on_trial=seen.append)
    assert sorted(trial["number"] for trial in seen) == [trial["number"] for trial in study.finished] == [*range(5)]
    assert len({json.dumps(trial["changes"]) for trial in seen}) == 5


def test_a_trial_can_be_sent_to_another_process(problem: MakeProblem) -> None:
    function, *arguments = pickle.loads(pickle.dumps((final_sw2, problem(), {"learning_rate": 0.0})))
    assert function(*arguments) == untouched_sw2(problem())
