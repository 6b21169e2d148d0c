"""``ddpm-shortcut tune``."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agents.commands.options import Tune, default_algorithm
from agents.core.persistence import versions
from agents.core.task import Task, named_values
from agents.runs.folder import located
from agents.tuning.study import Study, Trial
from agents.tuning.trials import Problem
from agents.zoo import find
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import write_json

BEST = "best.json"
SHOWN = 5


def run(options: Tune, command: str) -> None:
    """Start or continue the study, print its trials, and write best.json."""
    problem = _problem(options)
    usable_device(options.conditions.device)
    steps = "-".join(map(str, options.num_steps))
    datasets = "-".join(Path(dataset).stem for dataset in options.dataset)
    output = options.output or Path("runs") / f"tune-{find(options.algo).name}-{datasets}-{steps}"
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
    return Problem(
        options.algo,
        tuple(map(located, options.tasks)),
        options.total_timesteps,
        options.seeds,
        named_values(options.fix, "--fix"),
        options.num_samples,
        options.threads,
    )


def result(study: Study, command: str) -> dict[str, Any]:
    """What best.json records: the changes of the preset, what they reach, and everything that belongs to it."""
    finished, best = study.finished, study.best
    return {
        **best,
        "preset_value": finished[0]["value"],
        "dimensions": list(study.space),
        "num_trials": len(finished),
        "num_diverged": sum(None in trial["sw2"] for trial in finished),
        "untouched_sw2": study.untouched,
        "problem": study.problem.to_json(),
        "seed": study.seed,
        "repeat": repeat(study.problem, best),
        "command": command,
        "versions": {**versions(), "optuna": version("optuna")},
    }


def repeat(problem: Problem, trial: Trial) -> str:
    """The commands that train with the changes of ``trial``, one per task."""
    return "\n".join(_repeat(problem, task, {**problem.fixed, **trial["changes"]}) for task in problem.tasks)


def _repeat(problem: Problem, task: Task, changes: Mapping[str, Any]) -> str:
    typed = {f.name for f in fields(default_algorithm(problem.algo))}
    options = {"algo": problem.algo, **task.env_kwargs, "num_envs": task.num_envs}
    options["total_timesteps"] = problem.total_timesteps
    kwargs, learns = options.pop("critic_kwargs", {}), options.pop("train_critic")
    options |= {name: value for name, value in changes.items() if name in typed}
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in options.items()]
    words += [] if learns else ["--no-train-critic"]
    others = {name: value for name, value in changes.items() if name not in typed}
    return " ".join(["ddpm-shortcut train", *words, *_named("--critic-kwargs", kwargs), *_named("--set", others)])


def _named(flag: str, values: Mapping[str, Any]) -> list[str]:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return [flag, *(shlex.quote(f"{name}={text}") for name, text in texts.items())] if texts else []


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
