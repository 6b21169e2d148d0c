"""Algorithms x tasks x seeds at one budget: ``python -m benchmarks.compare --grid main`` (protocol in README.md here).

With ``--algo`` one algorithm of yours is run on tasks of the grid and compared with the results that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from agents.core.task import named_values
from benchmarks.comparison.grid import Grid, chosen
from benchmarks.comparison.grids import GRIDS
from benchmarks.comparison.options import GridOptions, command
from benchmarks.comparison.protocol import Protocol
from benchmarks.comparison.record import Record, load
from benchmarks.comparison.report import PAGES, write_page, write_report
from benchmarks.comparison.results import merge_parts
from benchmarks.comparison.runner import Plan, measure_saved, run_missing
from benchmarks.comparison.scores import Results
from benchmarks.comparison.stranger import Stranger, stranger_entry

RESULTS = Path(__file__).parent / "results" / "compare"
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class CompareConfig(GridOptions):
    """Which part of which grid is run, or which algorithm of yours is compared with it, and where the results go."""

    grid: str = "main"
    """Name of a grid (see benchmarks/comparison/grids.py), or "all", one after the other."""
    algorithms: tuple[str, ...] = ()
    """Names of its entries, "floor" and "untouched" included; empty runs all."""
    tasks: tuple[str, ...] = ()
    """Names of its tasks, such as swiss_roll_k10; empty runs all."""
    protocol: Protocol = field(default_factory=Protocol)
    """How much is measured."""
    results: Path = RESULTS
    """Where the folder of all runs and the reports are."""
    algo: str | None = None
    """An algorithm to compare with the results that are there, which are not run again: "module:Class" of yours (the
    current folder is searched too), or a name of `agents.zoo`."""
    changes: Annotated[tuple[str, ...], arg(name="set")] = ()
    """Hyper-parameters of --algo, NAME=VALUE each."""
    name: str | None = None
    """What --algo is called in the table and in its file; None takes the name of its class or function and --set."""
    output: Path = Path("runs/compare")
    """Folder of the results of --algo, NAME.jsonl (with --scale: OUTPUT_xSCALE); the same call goes on where it was
    interrupted."""

    @property
    def folder(self) -> Path:
        """The folder of the results, which grids share."""
        return self.results / f"runs{self.suffix}"

    @property
    def grids(self) -> list[Grid]:
        """The grids that are asked for; ValueError lists the names there are."""
        return [GRIDS[name] for name in (GRIDS if self.grid == ALL else chosen("grids", list(GRIDS), [self.grid]))]

    def plan(self, grid: Grid) -> Plan:
        """How the runs of ``grid`` are made."""
        return Plan(grid, self.folder, self.protocol, self.scale)

    def stranger(self) -> Stranger:
        """The algorithm of --algo on the tasks and seeds that are asked for."""
        if self.grid == ALL or self.algo is None:
            raise ValueError(
                f"--algo is compared with one grid; received --grid {self.grid}. Choose from {list(GRIDS)}."
            )
        entry = stranger_entry(self.algo, self.name, named_values(self.changes, "--set"))
        folder = self.output.with_name(f"{self.output.name}{self.suffix}")
        return Stranger(entry, self.grids[0], self.tasks, self.seeds, folder, self.protocol, self.scale)


def read(config: CompareConfig) -> Record:
    """The results, those of interrupted grids included; ValueError where a run is in no grid."""
    merge_parts(config.folder)
    return load(config.folder, GRIDS.values())


def main(config: CompareConfig) -> int:
    """Run what is missing, write reports and figures, or the rows of --algo; returns the number of failed runs."""
    if config.algo is not None:
        committed = load(config.results / "runs", GRIDS.values())
        stranger = config.stranger()
        make = stranger.measure_saved if config.measure_only else stranger.run_missing
        failed = 0 if config.report_only else make(config.processes)
        print(stranger.table(committed))
        return failed
    wanted = {grid.name: grid.selected(config.algorithms, config.tasks, config.seeds) for grid in config.grids}
    record, failed = read(config), 0
    for grid in [] if config.report_only else config.grids:
        act = measure_saved if config.measure_only else run_missing
        failed += act(wanted[grid.name], config.plan(grid), record, config.processes)
        record = read(config)
    for grid in config.grids:
        results = Results(grid, record.runs_of(grid))
        print(write_report(results, config.folder, config.results / f"{grid.name}{config.suffix}.md"))
        if config.folder == RESULTS / "runs":
            write_page(results, PAGES[grid.name])
    return failed


if __name__ == "__main__":
    command(CompareConfig, main)
