"""One default at every K, measured: ``python -m benchmarks.defaults`` (protocol in benchmarks/README.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison.default_grids import ABLATION, DEFAULTS, TRAJECTORIES
from benchmarks.comparison.default_report import write_report
from benchmarks.comparison.grid import Grid, chosen
from benchmarks.comparison.options import GridOptions, command
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.record import Record, load
from benchmarks.comparison.results import merge_parts
from benchmarks.comparison.runner import Plan, measure_saved, run_missing
from benchmarks.comparison.scores import Results

GRIDS = {grid.name: grid for grid in (DEFAULTS, ABLATION)}
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class DefaultsConfig(GridOptions):
    """Which part of which grid is run, and where the results go."""

    grid: str = DEFAULTS.name
    """defaults: what is claimed; ablation: what each part of the default is worth."""
    algorithms: tuple[str, ...] = ()
    """Names of its entries, "floor" and "untouched" included; empty runs all."""
    tasks: tuple[str, ...] = ()
    """Names of its tasks, such as swiss_roll_k10; empty runs all."""
    protocol: Protocol = field(default_factory=lambda: Protocol(evaluations=1, refit_steps=500, curve_points=4))
    """How much is measured."""
    results: Path = RESULTS
    """Where the folder of the runs and the report are."""

    @property
    def plan(self) -> Plan:
        """How the runs are made; each grid has a folder."""
        grid = GRIDS[chosen("grids", list(GRIDS), [self.grid])[0]]
        return Plan(grid, self.results / f"{grid.name}{self.suffix}", self.protocol, self.scale)


def read(config: DefaultsConfig, grid: Grid) -> Record:
    """The results, those of an interrupted call included; ValueError where a run is none of the grid's."""
    merge_parts(config.plan.folder)
    return load(config.plan.folder, [grid])


def main(config: DefaultsConfig) -> int:
    """Run what is missing, write the report; returns the number of failed runs."""
    plan, failed = config.plan, 0
    wanted = plan.grid.selected(config.algorithms, config.tasks, config.seeds)
    if not config.report_only:
        act = measure_saved if config.measure_only else run_missing
        failed = act(wanted, plan, read(config, plan.grid), config.processes)
    results = Results(plan.grid, read(config, plan.grid).runs_of(plan.grid))
    path = config.results / f"{plan.grid.name}{config.suffix}.md"
    print(write_report(results, plan.folder, path, int(TRAJECTORIES * config.scale)))
    return failed


if __name__ == "__main__":
    command(DefaultsConfig, main)
