"""Algorithms x tasks x seeds at one budget: ``python -m benchmarks.compare --grid main`` (protocol in README.md here).

Every run is a process and one JSON file. A run whose file is there, made with the same settings, is not repeated, so an
interrupted grid continues where it stopped; a run that failed is tried again. The report is rebuilt from the JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from benchmarks.comparison.grids import FLOOR, GRIDS, NUM_ENVS, REFERENCES, Grid, Run, selected
from benchmarks.comparison.manifest import manifest
from benchmarks.comparison.measuring import measure, measure_floor, measure_untouched, training_ipm
from benchmarks.comparison.pool import Job, describe, run_all
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.report import PAGES, write_page, write_report
from benchmarks.comparison.training import settings, train
from diffusion_env.checkpoints import write_json
from diffusion_env.data.named import load_dataset

RESULTS = Path(__file__).parent / "results" / "compare"
ALL = "all"


@dataclass(frozen=True)
class CompareConfig:
    """Which part of which grid is run, and where the results go."""

    grid: str = "main"
    """Name of a grid (see benchmarks/grids.py), or "all", one after the other."""
    algorithms: tuple[str, ...] = ()
    """Names of its entries, "floor" and "untouched" included; empty runs all."""
    tasks: tuple[str, ...] = ()
    """Names of its tasks, such as swiss_roll_k10; empty runs all."""
    seeds: tuple[int, ...] = ()
    """Seeds; empty runs the grid's."""
    processes: int = 2
    """Runs at a time, each on one torch thread."""
    scale: float = 1.0
    """Multiple of the budget; results other than at 1 have a folder and a report of their own, with _xSCALE."""
    protocol: Protocol = field(default_factory=Protocol)
    """How much is measured."""
    results: Path = RESULTS
    """Where the folder of all runs and the reports are."""
    report_only: bool = False
    """Only rebuild the report and its figures from the JSON files."""

    @property
    def folder(self) -> Path:
        """The folder of the JSON files, which grids share."""
        return self.results / f"runs{self.suffix}"

    @property
    def suffix(self) -> str:
        """ "" at scale 1."""
        return "" if self.scale == 1 else f"_x{self.scale:g}"

    @property
    def definition(self) -> Grid:
        """The grid; ValueError lists the names there are."""
        return selected(tuple(GRIDS.values()), [self.grid])[0]

    def budget(self, run: Run) -> int:
        """Environment steps; 0 for a reference."""
        steps = self.definition.total_timesteps[run.task.num_steps]
        return 0 if run.entry.algorithm in REFERENCES else max(1, int(self.scale * steps))

    def wanted(self) -> list[Run]:
        """The runs that are asked for, in order."""
        every = self.definition.runs(self.seeds or None)
        entries = {run.entry.name: run.entry for run in every}
        names = {entry.name for entry in selected(tuple(entries.values()), self.algorithms)}
        tasks = set(selected(self.definition.tasks, self.tasks))
        return [run for run in every if run.entry.name in names and run.task in tasks]


def made_with_settings(run: Run, config: CompareConfig) -> dict[str, Any]:
    """What a result depends on, JSON: a file with other settings does not count as this run's."""
    made: dict[str, Any] = {
        "algorithm": run.entry.algorithm,
        "hyperparameters": settings(run.entry),
        "critic": run.entry.critic,
        "num_envs": NUM_ENVS,
        "total_timesteps": config.budget(run),
        "protocol": asdict(config.protocol),
    }
    as_stored: dict[str, Any] = json.loads(json.dumps(made))
    return as_stored


def identity(run: Run, config: CompareConfig) -> dict[str, Any]:
    """The head of a run's JSON."""
    return {
        "entry": run.entry.name,
        "task": asdict(run.task),
        "seed": run.seed,
        "settings": made_with_settings(run, config),
    }


def execute(run: Run, config: CompareConfig) -> dict[str, Any]:
    """The run's JSON: identity, status ("finished" or "diverged"), costs, metrics, and what it was made with."""
    torch.set_num_threads(1)
    result = {**identity(run, config), "status": "finished", "error": "", **_outcome(run, config)}
    usage = {
        "process_cpu_seconds": time.process_time(),
        "peak_resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return {**result, **usage, **manifest()}


def _outcome(run: Run, config: CompareConfig) -> dict[str, Any]:
    if run.entry.algorithm in REFERENCES:
        reference = measure_floor if run.entry.algorithm == FLOOR else measure_untouched
        return reference(load_dataset(run.task.dataset), run.task.num_steps, run.seed, config.protocol)
    trained = train(run.entry, run.task, run.seed, config.budget(run), config.protocol)
    if trained.diverged:
        return {"status": "diverged", "error": trained.diverged, **trained.costs, "metrics": None}
    try:
        metrics = measure(trained.sample, trained.dataset, run.seed, config.protocol)
    except FloatingPointError as error:
        return {"status": "diverged", "error": str(error), **trained.costs, "metrics": None}
    return {**trained.costs, "training_ipm": training_ipm(trained, run.seed, config.protocol), "metrics": metrics}


def execute_and_save(run: Run, config: CompareConfig) -> str:
    """One run in its own process; the JSON is written when it is complete."""
    started = time.perf_counter()
    result = execute(run, config)
    write_json(config.folder / run.path, result)
    metrics = result["metrics"]
    words = "diverged" if metrics is None else f"SW2 {100 * sum(metrics['sw2']) / len(metrics['sw2']):.2f}e-2"
    label = f"{run.entry.name} {run.task.name} seed {run.seed}"
    return f"{label}: {words}, {time.perf_counter() - started:.0f} s"


def is_done(run: Run, config: CompareConfig) -> bool:
    """Whether the run's file holds a result, made with these settings."""
    path = config.folder / run.path
    if not path.exists():
        return False
    result = json.loads(path.read_text())
    return result["status"] != "failed" and result["settings"] == made_with_settings(run, config)


def save_failure(config: CompareConfig, job: Job, error: BaseException) -> None:
    """Write that a run failed, and why; the next call tries it again."""
    run: Run = job.arguments[0]
    last = describe(error).strip().splitlines()[-1]
    write_json(config.folder / run.path, {**identity(run, config), "status": "failed", "error": last})


def run_missing(config: CompareConfig) -> int:
    """All wanted runs without a result; returns how many failed."""
    jobs = [Job(execute_and_save, (run, config)) for run in config.wanted() if not is_done(run, config)]
    return run_all(jobs, config.processes, partial(save_failure, config))


def main(config: CompareConfig) -> int:
    """Run what is missing, write report and figures; returns the number of failed runs."""
    if config.grid == ALL:
        return sum(main(replace(config, grid=name)) for name in GRIDS)
    failed = 0 if config.report_only else run_missing(config)
    print(write_report(config.folder, config.definition, config.results / f"{config.grid}{config.suffix}.md"))
    if config.folder == RESULTS / "runs":
        write_page(config.folder, config.definition, PAGES[config.grid])
    return failed


if __name__ == "__main__":
    sys.exit(min(1, main(tyro.cli(CompareConfig))))
