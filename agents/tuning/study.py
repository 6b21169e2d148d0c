"""Tuning: a study of so many trials, each the training of one configuration with every tuning seed.

A comparison is only as fair as its tuning: every algorithm gets the same number of trials at the same budget, the
preset it starts from is the first of them, and neither seeds nor points are those that results are reported on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from agents.core.spaces import Parameter, Range, Space
from agents.runs.processes import follow_parent
from agents.tuning.trials import Problem, final_sw2, trial_value, untouched_sw2
from agents.zoo import find
from diffusion_env.checkpoints import write_json

if TYPE_CHECKING:
    import optuna

JOURNAL, STUDY, TRIALS = "study.journal", "study.json", "trials.jsonl"

Trial = dict[str, Any]
"""A finished trial: number, value, changes, sw2 (data units, per seed; None where it diverged)."""


def load_optuna() -> ModuleType:
    """optuna, with warnings alone logged; ImportError that names the extra where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            "Tuning needs optuna, which is not installed. Install it with pip install 'ddpm-shortcut[tune]'."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def start_and_space(problem: Problem) -> tuple[dict[str, Any], Space]:
    """The algorithm's own value of each hyper-parameter that is tuned, and what it may become.

    ValueError if one is fixed that the algorithm does not have, and where nothing is left to tune.
    """
    entry = find(problem.algo)
    entry.settings(problem.fixed)
    space = {name: one for name, one in entry.space(problem.largest).items() if name not in problem.fixed}
    if not space:
        raise ValueError(
            f"{entry.name} has no hyper-parameter to tune. A class or function of yours says what may be tuned by its "
            "attribute `space`, such as {'learning_rate': Range(1e-5, 1e-2)} with Range from agents.core.spaces."
        )
    return {name: entry.defaults[name] for name in space}, space


def _distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    kinds = load_optuna().distributions
    if not isinstance(parameter, Range):
        return kinds.CategoricalDistribution(parameter.values)
    kind = kinds.IntDistribution if parameter.is_integer else kinds.FloatDistribution
    return kind(parameter.low, parameter.high, log=True)


class Study:
    """Trials of one `Problem` in a folder; opened again (by one process at a time), it goes on where it was.

    study.journal    optuna's own record, from which an interrupted study continues
    study.json       the problem, the seed, and the SW2 (data units) of the untouched sampler
    trials.jsonl     a JSON object per finished trial
    """

    def __init__(self, problem: Problem, folder: str | Path, seed: int = 0) -> None:
        """``seed``: of optuna's choices. Raises ValueError if the folder holds the study of another problem."""
        self.optuna = load_optuna()
        self.problem, self.folder, self.seed = problem, Path(folder), seed
        self.start, self.space = start_and_space(problem)
        self.distributions = {name: _distribution(parameter) for name, parameter in self.space.items()}
        self.untouched = self._open()
        self.study = self._load()

    def _open(self) -> list[float]:
        """Check or write study.json; the untouched sampler's SW2."""
        wanted = json.loads(json.dumps({**self.problem.to_json(), "seed": self.seed}))
        path = self.folder / STUDY
        if not path.is_file():
            if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
                raise FileExistsError(f"{self.folder} holds files that are no study. Choose another folder.")
            untouched = untouched_sw2(self.problem)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(path, {**wanted, "untouched_sw2": untouched})
        found = json.loads(path.read_text(encoding="utf-8"))
        differing = {key: (found.get(key), value) for key, value in wanted.items() if found.get(key) != value}
        if differing:
            raise ValueError(
                f"{self.folder} holds a study that began otherwise, and its trials cannot be compared with new ones: "
                f"{', '.join(f'{key} was {old} and is {new}' for key, (old, new) in differing.items())}. Repeat its "
                "options to go on with it, or choose another folder."
            )
        return list(found["untouched_sw2"])

    def _load(self) -> optuna.Study:
        """optuna's study, without the trials that a kill cut short."""
        journal = self.optuna.storages.journal.JournalFileBackend(str(self.folder / JOURNAL))
        storage = self.optuna.storages.JournalStorage(journal)
        study: optuna.Study = self.optuna.create_study(storage=storage, study_name="tune", load_if_exists=True)
        for trial in self._in_state(study, "RUNNING"):
            study.tell(trial.number, state=self.optuna.trial.TrialState.FAIL)
        return study

    def _in_state(self, study: optuna.Study, *names: str) -> list[optuna.trial.FrozenTrial]:
        states = tuple(self.optuna.trial.TrialState[name] for name in names)
        return study.get_trials(deepcopy=False, states=states)

    @property
    def finished(self) -> list[Trial]:
        """The finished trials, in the order they were chosen in."""
        trials = [{**trial.user_attrs, "value": trial.value} for trial in self._in_state(self.study, "COMPLETE")]
        return sorted(trials, key=lambda trial: int(trial["number"]))

    @property
    def best(self) -> Trial:
        """The first of the finished trials with the least value, which is optimistic: new seeds will do worse."""
        return min(self.finished, key=lambda trial: float(trial["value"]))

    def run(self, trials: int, processes: int = 1, on_trial: Callable[[Trial], object] = print) -> None:
        """Go on to ``trials`` finished trials, ``processes`` at a time; ``on_trial`` gets each."""
        running: dict[Future[list[float | None]], optuna.Trial] = {}
        with workers(processes) as executor:
            while len(self.finished) < trials:
                for _ in range(min(processes, trials - len(self.finished)) - len(running)):
                    trial = self._ask()
                    running[executor.submit(final_sw2, self.problem, trial.user_attrs["changes"])] = trial
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    on_trial(self._tell(running.pop(future), future.result()))

    def _ask(self) -> optuna.Trial:
        """The next trial: the preset itself, then TPE's choice.

        Each choice has a seed of its own, so an interrupted study makes those of an uninterrupted one.
        """
        taken = {trial.user_attrs["number"] for trial in self._in_state(self.study, "COMPLETE", "RUNNING")}
        number = next(number for number in count() if number not in taken)
        if number == 0 and not self._in_state(self.study, "WAITING"):
            self.study.enqueue_trial(self.start)
        self.study.sampler = self.optuna.samplers.TPESampler(seed=self.seed * 100_003 + number)
        trial = self.study.ask(self.distributions)
        trial.set_user_attr("number", number)
        trial.set_user_attr("changes", dict(trial.params))
        return trial

    def _tell(self, trial: optuna.Trial, sw2: list[float | None]) -> Trial:
        trial.set_user_attr("sw2", sw2)
        self.study.tell(trial, trial_value(sw2, self.untouched))
        lines = [json.dumps(one) + "\n" for one in self.finished]
        (self.folder / TRIALS).write_text("".join(lines), encoding="utf-8")
        return next(one for one in self.finished if one["number"] == trial.user_attrs["number"])


class _Inline(Executor):
    """Makes each call at once, in this process."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **keywords: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*arguments, **keywords))
        return future


@contextmanager
def workers(processes: int) -> Iterator[Executor]:
    """One executor of trials: this process itself, or several processes."""
    if processes == 1:
        yield _Inline()
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=follow_parent) as pool:
        yield pool
