"""Runs of a grid: which are missing, each in a process of its own, and what a result says.

A run whose result is there, made with the same settings, is not repeated, so an interrupted grid goes on where it
stopped. A run that raises is recorded as failed and tried again by the next call; one whose sampler stops giving finite
numbers is a result, "diverged". Each trained sampler is saved beside the results, and `measure_saved` measures it again
without training.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from agents.core.task import Task
from agents.runs.divergence import divergence
from agents.zoo import find
from benchmarks.comparison.grid import FLOOR, Grid, Run, task_record
from benchmarks.comparison.manifest import manifest
from benchmarks.comparison.pool import Job, describe, run_all
from benchmarks.comparison.protocol import Measuring
from benchmarks.comparison.record import Record, key_of
from benchmarks.comparison.results import RunResult, merge_parts, run_key, write_part
from benchmarks.comparison.samplers import restore_sampler, sampler_path, save_sampler
from diffusion_env.data.named import load_dataset


def as_it_is(task: Task, folder: Path, scale: float) -> Task:
    """The task as it is: every value is passed to the environment unchanged."""
    return task


@dataclass(frozen=True)
class Plan:
    """How the runs of a grid are made, and where their results go."""

    grid: Grid
    folder: Path
    """Of the files of the entries."""
    protocol: Measuring
    """What is measured."""
    scale: float = 1.0
    """Multiple of every budget."""
    prepare: Callable[[Task, Path, float], Task] = as_it_is
    """The task that is trained on, from the task of the grid, `folder` and `scale`."""

    def budget(self, run: Run) -> int:
        """Environment steps; 0 for a reference."""
        steps = self.grid.budget(run)
        return max(1, int(self.scale * steps)) if steps else 0


def settings(run: Run, plan: Plan) -> dict[str, Any]:
    """What a result depends on, JSON: a result with other settings does not count as this run's."""
    assert is_dataclass(plan.protocol)
    algorithm = run.entry.algorithm
    changes = run.entry.changes_at(run.task.num_steps)
    made = {
        "algorithm": algorithm,
        "hyperparameters": {} if algorithm == FLOOR else find(algorithm).settings(changes),
        "critic": run.task.critic,
        **({"critic_kwargs": dict(run.task.critic_kwargs)} if run.task.critic_kwargs else {}),
        "num_envs": run.task.num_envs,
        "total_timesteps": plan.budget(run),
        "protocol": asdict(plan.protocol),
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(made))
    return as_stored


def same_settings(recorded: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether a result with the settings ``recorded`` is one of a run with the settings ``wanted``.

    A hyper-parameter that did not exist when the run was made counts as the default of its class, where the algorithm's
    entry says so (`OwnEntry.before`), else as what it is in the algorithm's own settings.
    """
    algorithm = wanted["algorithm"]
    entry = None if algorithm == FLOOR else find(algorithm)
    before = {} if entry is None else getattr(entry, "before", None) or entry.settings({})
    default = json.loads(json.dumps(before))
    filled = {name: default[name] for name in wanted["hyperparameters"] if name in default}
    return {**recorded, "hyperparameters": {**filled, **recorded["hyperparameters"]}} == wanted


def training_settings(made: dict[str, Any]) -> dict[str, Any]:
    """Those of the settings ``made`` that training depends on, the measurements of the learning curve included."""
    curve = {name: x for name, x in made["protocol"].items() if name.startswith("curve_")}
    return {**made, "protocol": curve}


def identity(run: Run, plan: Plan) -> dict[str, Any]:
    """The head of a result."""
    return {
        "entry": run.entry.name,
        "task": task_record(run.task),
        "seed": run.seed,
        "settings": settings(run, plan),
    }


def execute(run: Run, plan: Plan) -> RunResult:
    """The run's result: identity, status ("finished" or "diverged"), costs, metrics, and what it was made with."""
    torch.set_num_threads(1)
    result = {**identity(run, plan), "status": "finished", "error": "", **_outcome(run, plan)}
    usage = {
        "process_cpu_seconds": time.process_time(),
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return {**result, **usage, **manifest()}


def _outcome(run: Run, plan: Plan) -> dict[str, Any]:
    task = plan.prepare(run.task, plan.folder, plan.scale)
    if run.entry.algorithm == FLOOR:
        return plan.protocol.of_floor(load_dataset(task.dataset), task, run.seed)
    algorithm = find(run.entry.algorithm).make(task, run.seed, run.entry.changes_at(task.num_steps))
    if not run.entry.trains:
        return plan.protocol.of_untouched(algorithm, run.seed)
    watch = plan.protocol.watch(algorithm, plan.budget(run))
    diverged = divergence(lambda: algorithm.learn(plan.budget(run), watch), algorithm.sample)
    if not diverged:
        save_sampler(sampler_path(plan.folder, run), algorithm, training_settings(settings(run, plan)))
    costs = {
        "timesteps": algorithm.num_timesteps,
        "network_evaluations": algorithm.network_evaluations,
        "train_cpu_seconds": watch.clock.cpu_seconds,
        "train_seconds": watch.clock.seconds,
        "curve": plan.protocol.curve(watch.history),
    }
    if not diverged:
        try:
            return {**costs, **plan.protocol.of_trained(algorithm, run.seed)}
        except FloatingPointError as error:
            diverged = str(error)
    return {"status": "diverged", "error": diverged, **costs, "metrics": None}


def execute_and_save(run: Run, plan: Plan) -> str:
    """One run in its own process; its part is written when it is complete."""
    started = time.perf_counter()
    result = execute(run, plan)
    write_part(plan.folder, result)
    return f"{run.label}: {result['status']}, {time.perf_counter() - started:.0f} s"


def save_failure(plan: Plan, job: Job, error: BaseException) -> None:
    """Write that a run failed, and why; the next call tries it again."""
    run: Run = job.arguments[0]
    last = describe(error).strip().splitlines()[-1]
    write_part(plan.folder, {**identity(run, plan), "status": "failed", "error": last, "metrics": None, **manifest()})


def missing(runs: Sequence[Run], plan: Plan, record: Record) -> list[Run]:
    """Those of ``runs`` without a result that was made with their settings and did not fail."""
    there = {
        (entry, *run_key(result)): result["settings"]
        for entry, results in record.entries.items()
        for result in results
        if result["status"] != "failed"
    }
    found = {run: there.get((run.entry.name, *key_of(run))) for run in runs}
    return [run for run, made in found.items() if made is None or not same_settings(made, settings(run, plan))]


def run_missing(runs: Sequence[Run], plan: Plan, record: Record, processes: int) -> int:
    """Make those of ``runs`` that are missing, ``processes`` at a time; returns how many failed.

    What is finished when this is interrupted is in the results, or is put there by the next call.
    """
    jobs = [Job(execute_and_save, (run, plan)) for run in missing(runs, plan, record)]
    try:
        return run_all(jobs, processes, partial(save_failure, plan))
    finally:
        merge_parts(plan.folder)


def measured_again(run: Run, plan: Plan, before: RunResult) -> RunResult:
    """The finished result ``before`` of ``run``, measured again from its saved sampler; the learning curve stays.

    A reference has no sampler: it is made again as a whole. Raises CheckpointError where the saved sampler is not this
    run's.
    """
    if not run.entry.trains:
        return execute(run, plan)
    torch.set_num_threads(1)
    wanted, task = settings(run, plan), plan.prepare(run.task, plan.folder, plan.scale)
    algorithm = find(run.entry.algorithm).make(task, run.seed, run.entry.changes_at(task.num_steps))
    restore_sampler(sampler_path(plan.folder, run), algorithm, training_settings(wanted), same_settings)
    return {**before, "settings": wanted, **plan.protocol.of_trained(algorithm, run.seed)}


def measure_and_save(run: Run, plan: Plan, before: RunResult) -> str:
    """`measured_again` in its own process; its part is written when it is complete."""
    started = time.perf_counter()
    write_part(plan.folder, measured_again(run, plan, before))
    return f"{run.label}: measured again, {time.perf_counter() - started:.0f} s"


def measure_saved(runs: Sequence[Run], plan: Plan, record: Record, processes: int) -> int:
    """Measure again those of ``runs`` that have a finished result and, if they train, a saved sampler.

    Says how many have not; returns how many failed, whose results stay as they were.
    """
    finished = {
        (entry, *run_key(result)): result
        for entry, results in record.entries.items()
        for result in results
        if result["status"] == "finished"
    }
    found = {run: finished.get((run.entry.name, *key_of(run))) for run in runs}
    there = {
        run: result
        for run, result in found.items()
        if result is not None and (not run.entry.trains or sampler_path(plan.folder, run).exists())
    }
    if len(there) < len(runs):
        print(f"{len(runs) - len(there)} of {len(runs)} runs have no finished result with a saved sampler; left as is.")
    try:
        return run_all([Job(measure_and_save, (run, plan, result)) for run, result in there.items()], processes)
    finally:
        merge_parts(plan.folder)
