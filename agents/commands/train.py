"""``ddpm-shortcut train``."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.commands.options import Train, default_algorithm
from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.runs.callbacks import Checkpoint, SamplerEvaluation, SamplerProgressBar
from agents.runs.folder import RunFolder, located, next_folder
from agents.zoo import NAMES, find, load_agent
from diffusion_env.assembly import usable_device
from diffusion_env.config import EvaluationConfig
from diffusion_env.evaluation.protocol import draw_fresh


def run(options: Train, command: str) -> None:
    """Start or continue a run; ``command`` is recorded with it."""
    torch.set_num_threads(options.threads)
    if options.resume is not None:
        resume(options)
        return
    entry, changes = find(options.algo), options.changes
    options = replace(options, task=located(options.task))
    algorithm = entry.make(options.task, options.seed, changes)
    check_points(options, algorithm)
    output = options.output or next_folder("runs", f"{entry.name}-{algorithm.dataset.name}-{options.task.num_steps}")
    folder = RunFolder.create(output, run_config(options, command))
    algorithm.set_logger(folder.logger())
    shown = "\n".join(f"{name:>24} = {value!r}" for name, value in entry.settings(changes).items())
    print(f"{shown}\nWriting {folder.path}; watch it with: tensorboard --logdir {folder.path}")
    evaluation = watched(options, algorithm)
    algorithm.learn(options.total_timesteps, callbacks(options, folder, algorithm, evaluation), options.log_interval)
    _report(folder, evaluation)


def resume(options: Train) -> None:
    """Continue the run in ``options.resume`` with the options it was started with."""
    assert options.resume is not None
    if replace(options, resume=None) != Train(algo=options.algo, algorithm=default_algorithm(options.algo)):
        raise ValueError(
            "--resume continues a run exactly, with the options it was started with; give no other option beside it "
            "but --algo FILE:NAME, where the run trains an algorithm of yours. To train a sampler differently, start a "
            "new run."
        )
    folder = RunFolder.open(options.resume)
    recorded = recorded_options(folder)
    if recorded.algo not in NAMES and recorded.algo != options.algo:
        raise ValueError(
            f"{folder.path} trains {recorded.algo!r}, and a file never makes us import what it names. If you trust "
            f"that code, name it in this call: --algo {recorded.algo}"
        )
    torch.set_num_threads(recorded.threads)
    given = () if recorded.algo in NAMES else (options.algo,)
    algorithm: Algorithm = load_agent(folder.path, usable_device(recorded.task.device), given)
    algorithm.set_logger(folder.logger(algorithm.num_timesteps))
    print(f"Continuing {folder.path} at {algorithm.num_timesteps:,} environment steps.")
    evaluation = watched(recorded, algorithm)
    algorithm.resume(callbacks(recorded, folder, algorithm, evaluation), recorded.log_interval)
    _report(folder, evaluation)


def run_config(options: Train, command: str) -> dict[str, Any]:
    """What config.json records: every option as JSON, the command and the folder it was given in."""
    recorded = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    return {"command": command, "seed": options.seed, "options": {**recorded, "task": options.task.to_json()}}


def recorded_options(folder: RunFolder) -> Train:
    """The options in config.json, the flags of the algorithm as ``set``; ValueError if they are no training run's.

    Nothing is imported: an algorithm of a user stays a name.
    """
    try:
        recorded = dict(folder.config["options"])
        own = {"task": Task.from_json(recorded["task"]), "set": tuple(recorded["set"]), "resume": None}
        algorithm = _as_flags(recorded["algo"], recorded["algorithm"])
        return Train(**recorded | own | {"algorithm": algorithm})
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder.path / 'config.json'} does not hold the options of `ddpm-shortcut train` ({error}), so this run "
            "cannot be continued from the command line; `agents.load_agent` can still read its checkpoint."
        ) from error


def _as_flags(algo: str, recorded: dict[str, Any]) -> Any:
    """The typed options of an own algorithm, which the checkpoint holds for any other."""
    default = default_algorithm(algo) if algo in NAMES else None
    return recorded if default is None else type(default)(**recorded)


def check_points(options: Train, algorithm: Algorithm) -> None:
    """ValueError, before a folder is made, where the data set has too few points to measure on."""
    draw_fresh(algorithm.dataset, EvaluationConfig(num_samples=options.measure_samples, seeds=(0,)), 0)


def watched(options: Train, algorithm: Algorithm) -> SamplerEvaluation:
    """The learning curve: --measure-every iterations of this algorithm, in environment steps."""
    return SamplerEvaluation(options.measure_every * algorithm.iteration_timesteps, options.measure_samples)


def callbacks(
    options: Train, folder: RunFolder, algorithm: Algorithm, evaluation: SamplerEvaluation
) -> list[BaseCallback]:
    """Measurements before checkpoints (see `agents.runs.callbacks`), then the bar that shows them."""
    checkpoint = Checkpoint(folder.path, options.checkpoint_every * algorithm.iteration_timesteps)
    return [evaluation, checkpoint, *[SamplerProgressBar(evaluation)] * options.progress_bar]


def _report(folder: RunFolder, evaluation: SamplerEvaluation) -> None:
    if not evaluation.history:
        print(f"{folder.path} was already trained to its end.")
        return
    last = evaluation.history[-1]
    print(f"SW2 {last.sw2:.4f} (data units) after {last.num_timesteps:,} environment steps.")
    print(f"For the whole protocol: ddpm-shortcut evaluate --checkpoint {folder.path}")
