"""``ddpm-shortcut train``."""

from __future__ import annotations

import io
import shlex
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.commands.options import Train, default_algorithm
from agents.core.algorithm import Algorithm
from agents.core.persistence import versions
from agents.core.ranks import RankLost, Ranks, joined
from agents.core.task import Task
from agents.core.together import check_resumable
from agents.runs.callbacks import Checkpoint, SamplerEvaluation, SamplerProgressBar, StopOnSignal
from agents.runs.folder import CONFIG, RunFolder, SilentFolder, believed_paths, located, next_folder
from agents.runs.signals import Interrupted, StopRequest, handled
from agents.zoo import NAMES, find
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import load_object
from diffusion_env.config import EvaluationConfig
from diffusion_env.evaluation.protocol import draw_fresh
from diffusion_env.fields import from_json


def run(options: Train, command: str) -> None:
    """Start or continue a run; ``command`` is recorded with it."""
    torch.set_num_threads(options.threads)
    if options.resume is not None:
        resume(options)
        return
    entry = find(options.algo)
    options = replace(options, task=located(options.task))
    with joined(options.task.device) as ranks, only_the_first_speaks(ranks):
        algorithm = entry.make(options.task, options.seed, options.changes)
        check_ranks(algorithm, ranks)
        check_points(options, algorithm)
        name = f"{entry.name}-{algorithm.dataset.name}-{options.task.num_steps}"
        output = options.output or next_folder("runs", name)
        folder = RunFolder.create(output, run_config(options, command)) if ranks.rank == 0 else SilentFolder(output)
        with folder.locked():
            shown = entry.settings(options.changes).items()
            print("\n".join(f"{name:>24} = {value!r}" for name, value in shown))
            print(f"Writing {folder.path}; watch it with: tensorboard --logdir {folder.path}")
            _begin(options, algorithm, folder, ranks)


def _begin(options: Train, algorithm: Algorithm, folder: RunFolder, ranks: Ranks) -> None:
    """Train from the beginning."""
    algorithm.set_logger(folder.logger())
    evaluation = watched(options, algorithm)
    with handled(StopRequest(_how_to_go_on(options, folder, ranks))) as request:
        watching = callbacks(options, folder, algorithm, evaluation, request)
        algorithm.learn(options.total_timesteps, watching, options.log_interval)
    _report(folder, evaluation)


def _how_to_go_on(options: Train, folder: RunFolder, ranks: Ranks) -> str:
    own = "" if options.algo in NAMES else f" --algo {shlex.quote(options.algo)}"
    many = f"torchrun --nproc_per_node={ranks.size} -m agents.cli"
    program = "ddpm-shortcut" if ranks.size == 1 else many
    return f"Go on with: {program} train --resume {shlex.quote(str(folder.path))}{own}"


@contextmanager
def only_the_first_speaks(ranks: Ranks) -> Iterator[None]:
    """On every rank but the first, print nothing but errors; `agents.cli` puts the number of the rank before them."""
    with ExitStack() as silence:
        if ranks.rank > 0:
            silence.enter_context(redirect_stdout(io.StringIO()))
            silence.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        try:
            yield
        except RankLost:  # torchrun ends all ranks when one has ended, which must not cut off the sentence about it
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise
        except Interrupted as error:
            if ranks.rank > 0:
                raise SystemExit(error.exit_code) from error
            raise


def check_ranks(algorithm: Algorithm, ranks: Ranks) -> None:
    """ValueError where several processes were started for an algorithm that trains in one."""
    if ranks.size > 1 and getattr(algorithm, "ranks", None) != ranks:
        raise ValueError(
            f"{algorithm.name} trains in one process, and {ranks.size} were started. Start one: ddpm-shortcut train "
            f"--algo {algorithm.name}. The agents of this package can share their work among many."
        )


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
    with joined(recorded.task.device) as ranks, only_the_first_speaks(ranks):
        if ranks.rank > 0:
            folder = SilentFolder(folder.path)
        with folder.locked(), shown_warnings(ranks):
            _go_on(recorded, folder, ranks)


def _go_on(recorded: Train, folder: RunFolder, ranks: Ranks) -> None:
    """Continue from the checkpoint in ``folder``, or from the beginning where there is none yet."""
    entry = find(recorded.algo)
    if changes := changed_versions(folder.config.get("versions")):
        warnings.warn(f"{folder.path} was begun with other versions: {changes}.", stacklevel=2)
    if not folder.checkpoint.exists():
        print(f"{folder.path} was ended before its first checkpoint: it begins again, with its own options.")
        algorithm = entry.make(recorded.task, recorded.seed, recorded.changes)
        check_ranks(algorithm, ranks)
        _begin(recorded, algorithm, folder, ranks)
        return
    paths = believed_paths(folder.path, load_object(folder.checkpoint, "agent")[1])
    algorithm = entry.load(folder.checkpoint, str(usable_device(recorded.task.device)), paths, None)
    check_ranks(algorithm, ranks)
    compare_options(recorded, algorithm, folder)
    check_resumable(getattr(algorithm, "saved_ranks", 1), ranks.size)
    algorithm.set_logger(folder.logger(algorithm.num_timesteps, algorithm.logged))
    print(f"Continuing {folder.path} at {algorithm.num_timesteps:,} environment steps.")
    evaluation = watched(recorded, algorithm)
    with handled(StopRequest(_how_to_go_on(recorded, folder, ranks))) as request:
        algorithm.resume(callbacks(recorded, folder, algorithm, evaluation, request), recorded.log_interval)
    _report(folder, evaluation)


@contextmanager
def shown_warnings(ranks: Ranks) -> Iterator[None]:
    """Print each warning as a sentence on stderr, without the line of code that it came from; the first rank does."""
    with warnings.catch_warnings():
        warnings.simplefilter("always" if ranks.rank == 0 else "ignore", UserWarning)
        warnings.showwarning = lambda message, *where, **more: print(f"Warning: {message}", file=sys.stderr)
        yield


def changed_versions(recorded: Any) -> str:
    """Libraries whose version is not the ``recorded`` one, "torch 2.0 (now 2.1)"; "" for none."""
    before, now = recorded if isinstance(recorded, dict) else {}, versions()
    return ", ".join(
        f"{name} {before[name]} (now {now[name]})" for name in now if before.get(name, now[name]) != now[name]
    )


def compare_options(recorded: Train, algorithm: Algorithm, folder: RunFolder) -> None:
    """Warn where config.json says something else than the checkpoint, whose options count."""
    saved, wanted = algorithm.task, recorded.task
    different = [
        f.name for f in fields(Task) if f.name != "device" and getattr(saved, f.name) != getattr(wanted, f.name)
    ]
    config = getattr(algorithm, "config", None)
    if config is not None:
        asked = find(recorded.algo).settings(recorded.changes)
        different += [name for name, value in asdict(config).items() if asked.get(name, value) != value]
    if algorithm.seed != recorded.seed:
        different.append("seed")
    if different:
        warnings.warn(
            f"{folder.path / CONFIG} and the checkpoint differ in {different}. The run goes on with the checkpoint's "
            "values; to train with others, start a new run.",
            stacklevel=2,
        )


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
        own = {"task": from_json(Task, recorded["task"], "its task"), "set": recorded["set"], "resume": None}
        algorithm = _as_flags(str(recorded["algo"]), recorded["algorithm"])
        return from_json(Train, recorded | own | {"algorithm": algorithm}, "its options")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder.path / 'config.json'} does not hold the options of `ddpm-shortcut train` ({error}), so this run "
            "cannot be continued from the command line; `agents.load_agent` can still read its checkpoint."
        ) from error


def _as_flags(algo: str, recorded: dict[str, Any]) -> Any:
    """The typed options of an own algorithm, which the checkpoint holds for any other."""
    default = default_algorithm(algo) if algo in NAMES else None
    return recorded if default is None else from_json(type(default), recorded, f"the options of {algo}")


def check_points(options: Train, algorithm: Algorithm) -> None:
    """ValueError, before a folder is made, where the data set has too few points to measure on."""
    draw_fresh(algorithm.dataset, EvaluationConfig(num_samples=options.measure_samples, seeds=(0,)), 0)


def watched(options: Train, algorithm: Algorithm) -> SamplerEvaluation:
    """The learning curve: --measure-every iterations of this algorithm, in environment steps."""
    return SamplerEvaluation(options.measure_every * algorithm.iteration_timesteps, options.measure_samples)


def callbacks(
    options: Train, folder: RunFolder, algorithm: Algorithm, evaluation: SamplerEvaluation, request: StopRequest
) -> list[BaseCallback]:
    """Measurements before checkpoints (see `agents.runs.callbacks`), the end on a signal, the bar that shows SW2."""
    checkpoint = Checkpoint(folder.path, options.checkpoint_every * algorithm.iteration_timesteps)
    bar = [SamplerProgressBar(evaluation)] * options.progress_bar
    return [evaluation, checkpoint, StopOnSignal(request, checkpoint), *bar]


def _report(folder: RunFolder, evaluation: SamplerEvaluation) -> None:
    if not evaluation.history:
        print(f"{folder.path} was already trained to its end.")
        return
    last = evaluation.history[-1]
    print(f"SW2 {last.sw2:.4f} (data units) after {last.num_timesteps:,} environment steps.")
    print(f"For the whole protocol: ddpm-shortcut evaluate --checkpoint {folder.path}")
