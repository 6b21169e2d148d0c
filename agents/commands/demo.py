"""``ddpm-shortcut demo``: what ``make demo`` runs. The same command goes on with a demo that was ended too early."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.callbacks import BaseCallback

from agents.commands.options import Demo
from agents.core.algorithm import Algorithm
from agents.core.persistence import versions
from agents.runs.callbacks import Checkpoint, SamplerEvaluation, SamplerProgressBar, StopOnSignal
from agents.runs.figures import AFTER, BEFORE, DATA, Curve, Panel, Points, curve_figure, samples_figure, save
from agents.runs.folder import RunFolder, set_aside
from agents.runs.logs import TIMESTEPS
from agents.runs.processes import Children, follow_parent
from agents.runs.report import Row, format_table, row_name, short, trained_row, untouched_rows
from agents.runs.signals import StopRequest, handled
from agents.zoo import find
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import write_json
from diffusion_env.evaluation.protocol import draw_fresh

RESULT = "result.json"
PICTURED = 10_000
PICTURE_SEED = 20_000
CHECKPOINT_EVERY = 100

Untouched = Callable[[], tuple[list[Row], Row]]


def run(options: Demo, command: str) -> None:
    """Train, measure, print the table, and write ``options.output``."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    # First, so that bad input is reported before the second process starts.
    algorithm = find("sft_pg").make(options.task, options.seed, asdict(options.algorithm))
    with untouched(options) as untouched_result:
        folder = _folder(options, command)
        before = _pictured(algorithm)
        with folder.locked():
            if folder.checkpoint.exists():
                device = str(usable_device(options.task.device))
                algorithm = find("sft_pg").load(folder.checkpoint, device, options.task.env_kwargs, None)
            evaluation = _train(algorithm, options, folder)
        print("Measuring the trained sampler and waiting for the untouched ones ...")
        ours = trained_row(algorithm, options.evaluation)
        others, floor = untouched_result()
    rows = [*others, ours]
    _draw_samples(folder.path / "samples.png", algorithm, evaluation, before)
    _draw_curve(folder.path / "curve.png", folder, evaluation, floor)
    write_json(folder.path / RESULT, _result(rows, floor, evaluation, time.perf_counter() - started))
    print(f"\n{format_table(rows, floor)}\n\n{_closing(folder.path, evaluation, started)}")


def _folder(options: Demo, command: str) -> RunFolder:
    """The folder of a demo with these options that was ended before its result; else a new one."""
    folder, config = RunFolder(options.output), _config(options, command)
    if folder.matches(config) and not (folder.path / RESULT).exists():
        print(f"Going on with the demo in {folder.path}, which was ended before its result.")
        return folder
    older = set_aside(options.output)
    folder = RunFolder.create(options.output, config)
    if older is not None:
        print(f"The demo before this one is now in {older}.")
    return folder


def _train(algorithm: Algorithm, options: Demo, folder: RunFolder) -> SamplerEvaluation:
    iteration = algorithm.iteration_timesteps
    evaluation = SamplerEvaluation(options.measure_every * iteration, options.evaluation.num_samples)
    checkpoint = Checkpoint(folder.path, CHECKPOINT_EVERY * iteration)
    done = algorithm.num_timesteps
    algorithm.set_logger(folder.logger(done, algorithm.logged))
    evaluation.recall(folder.metrics())
    print(f"Training {algorithm.name} with {options.task.num_steps} steps on {algorithm.dataset.name} ...")
    how = (
        "The same command goes on from there. To measure the sampler so far: ddpm-shortcut evaluate --checkpoint "
        f"{folder.path}"
    )
    with handled(StopRequest(how)) as request:
        callbacks: list[BaseCallback] = [evaluation, checkpoint, StopOnSignal(request, checkpoint)]
        callbacks += [SamplerProgressBar(evaluation)] * options.progress_bar
        if done:
            algorithm.resume(callbacks)
        else:
            algorithm.learn(options.total_timesteps, callbacks)
    algorithm.logger.close()
    return evaluation


@contextmanager
def untouched(options: Demo) -> Iterator[Untouched]:
    """Have the untouched samplers measured by a second process from now on, or by this one when asked for.

    Yields a function that returns their rows and the floor, once they are there.
    """
    arguments = (options.task, options.samplers, options.evaluation)
    if not options.parallel:
        yield lambda: untouched_rows(*arguments)
        return
    # Spawned, not forked: a fork of a process in which torch has worked can hang.
    context = multiprocessing.get_context("spawn")
    children = Children()
    with ProcessPoolExecutor(1, context, follow_parent) as pool:
        try:
            yield pool.submit(untouched_rows, *arguments).result
        except BaseException:
            children.kill()  # or the end of this block would wait for its measurement
            raise


def _pictured(algorithm: Algorithm) -> Points:
    return algorithm.sample(PICTURED, PICTURE_SEED).numpy(force=True)


def _draw_samples(path: Path, algorithm: Algorithm, evaluation: SamplerEvaluation, before: Points) -> None:
    """Before, after and data, each with the SW2 of the learning curve's own points."""
    points = draw_fresh(algorithm.dataset, evaluation.config, evaluation.seed)
    data = points.reference.numpy(force=True)[:PICTURED]
    first, last = evaluation.history[0], evaluation.history[-1]
    task = algorithm.task
    untouched_name, own_name = (row_name(str(name), task.num_steps) for name in (task.sampler, algorithm.name))
    panels = [
        Panel(before, f"before: {untouched_name}, SW2 {first.sw2:.4f}", BEFORE),
        Panel(_pictured(algorithm), f"after: {own_name}, SW2 {last.sw2:.4f}", AFTER),
        Panel(data, f"data: {algorithm.dataset.name}", DATA),
    ]
    save(samples_figure(panels, data), path)


def _draw_curve(path: Path, folder: RunFolder, evaluation: SamplerEvaluation, floor: Row) -> None:
    logged = [line for line in folder.metrics() if "critic/ipm" in line]
    sw2 = Curve([m.num_timesteps for m in evaluation.history], [m.sw2 for m in evaluation.history])
    ipm = Curve([line[TIMESTEPS] for line in logged], [line["critic/ipm"] for line in logged])
    save(curve_figure(sw2, ipm, floor), path)


def _config(options: Demo, command: str) -> dict[str, Any]:
    recorded = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    return {"command": command, "seed": options.seed, "options": recorded}


def _result(rows: list[Row], floor: Row, evaluation: SamplerEvaluation, wall_seconds: float) -> dict[str, Any]:
    return {
        "rows": [short(row) for row in rows],
        "floor": short(floor),
        "train_seconds": evaluation.clock.seconds,
        "train_cpu_seconds": evaluation.clock.cpu_seconds,
        "wall_seconds": wall_seconds,
        "versions": versions(),
    }


def _closing(path: Path, evaluation: SamplerEvaluation, started: float) -> str:
    clock, wall = evaluation.clock, time.perf_counter() - started
    return (
        f"Training took {clock.seconds:.0f} s ({clock.cpu_seconds:.0f} CPU s); everything together {wall:.0f} s.\n"
        f"Pictures, metrics and the sampler are in {path}; curves: tensorboard --logdir {path}"
    )
