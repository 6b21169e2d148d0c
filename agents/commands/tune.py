"""``ddpm-shortcut tune``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.algorithms.presets import PRESETS
from agents.commands.options import Train, Tune
from agents.commands.train import absolute, env_kwargs
from agents.core.persistence import versions
from agents.tuning.study import Study, Trial
from agents.tuning.trials import Problem
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import write_json

BEST = "best.json"
SHOWN = 5


def run(options: Tune, command: str) -> None:
    """Start or continue the study, print its trials, and write best.json."""
    problem = _problem(options)
    usable_device(problem.device)
    steps = "-".join(map(str, options.num_steps))
    datasets = "-".join(Path(dataset).stem for dataset in options.dataset)
    output = options.output or Path("runs") / f"tune-{options.algo}-{datasets}-{steps}"
    study = Study(problem, output, options.seed)
    print(f"Tuning {len(study.space)} hyper-parameters of {options.algo}: {', '.join(study.space)}")
    print(f"Writing {study.folder}, which holds {len(study.finished)} of {options.trials} trials. 1 is untouched.")

    def on_trial(trial: Trial) -> None:
        print(_line(trial), flush=True)
        write_json(study.folder / BEST, result(study, command))

    study.run(options.trials, options.processes, on_trial)
    print(f"{table(study)}\nThe best training, to be repeated with seeds it was not tuned on:")
    print(f"{repeat(problem, study.best)}\nWrote {study.folder / BEST}")


def _problem(options: Tune) -> Problem:
    names = ("denoiser", "sampler", "critic")
    world = env_kwargs(Train(**{name: getattr(options, name) for name in names}))
    del world["num_steps"], world["dataset"]
    same = ("algo", "total_timesteps", "num_steps", "seeds", "num_envs", "num_samples", "device", "threads")
    own = {name: getattr(options, name) for name in same}
    return Problem(env_kwargs=world, datasets=tuple(map(absolute, options.dataset)), held=held(options.hold), **own)


def held(words: Iterable[str]) -> dict[str, Any]:
    """Hyper-parameters from NAME=VALUE, the value JSON or else a string; ValueError for anything else."""
    pairs = [word.partition("=") for word in words]
    if wrong := [name for name, sign, _ in pairs if not (name and sign)]:
        raise ValueError(f"--hold takes NAME=VALUE, such as n_critic=1; received {wrong}.")
    return {name: _value(text) for name, _, text in pairs}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def result(study: Study, command: str) -> dict[str, Any]:
    """What best.json records: the changes of the row, what they reach, and everything that belongs to it."""
    finished, best = study.finished, study.best
    return {
        **best,
        "preset_value": finished[0]["value"],
        "dimensions": list(study.space),
        "num_trials": len(finished),
        "num_diverged": sum(None in trial["sw2"] for trial in finished),
        "untouched_sw2": study.untouched,
        "problem": asdict(study.problem),
        "seed": study.seed,
        "repeat": repeat(study.problem, best),
        "command": command,
        "versions": {**versions(), "optuna": version("optuna")},
    }


def repeat(problem: Problem, trial: Trial) -> str:
    """The commands that train with the changes of ``trial``, one per data set and K; calls for SB3's algorithms."""
    return "\n".join(_repeat(problem, world, {**problem.held, **trial["changes"]}) for world in problem.worlds)


def _repeat(problem: Problem, world: dict[str, Any], changes: dict[str, Any]) -> str:
    if problem.algo not in PRESETS:
        called = f"{problem.algo!r}, {problem.num_envs}, {world}, hyperparameters=sb3_keywords({changes})"
        return f"agents.sb3.make_sb3({called})[0].learn({problem.total_timesteps}, agents.sb3.CriticSchedule())"
    options = {"algo": problem.algo, **world, "num_envs": problem.num_envs, "total_timesteps": problem.total_timesteps}
    del options["train_critic"]
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in (options | changes).items()]
    return " ".join(["ddpm-shortcut train", *words])


def table(study: Study) -> str:
    """The best five trials and the preset, best first."""
    ranked = sorted(study.finished, key=lambda trial: float(trial["value"]))
    shown = [trial for rank, trial in enumerate(ranked) if rank < SHOWN or trial["number"] == 0]
    return "\n".join(["Best first:", *map(_line, shown)])


def _line(trial: Trial) -> str:
    changes = ", ".join(f"{name}={_short(value)}" for name, value in trial["changes"].items())
    name = "preset" if trial["number"] == 0 else f"trial {trial['number']}"
    return f"{name:<9} {trial['value']:.4f}   {changes}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
