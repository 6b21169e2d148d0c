"""The paper's toy table, measured: ``python -m benchmarks.toy`` (protocol in benchmarks/README.md)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison.grid import Run
from benchmarks.comparison.options import GridOptions, command
from benchmarks.comparison.pool import Job, run_all
from benchmarks.comparison.record import Record, load
from benchmarks.comparison.results import merge_parts
from benchmarks.comparison.runner import Plan, measure_saved, missing, run_missing
from benchmarks.comparison.toy_grid import PUBLISHED, TOY, ToyProtocol, prepared, pretrain_published
from benchmarks.comparison.toy_report import write_readme, write_report

HERE = Path(__file__).parent
RESULTS = HERE / "results"


@dataclass(frozen=True, kw_only=True)
class ToyConfig(GridOptions):
    """Which rows are run, how often, and where the results go."""

    rows: tuple[str, ...] = ()
    """Names of rows (see benchmarks/comparison/toy_grid.py); empty runs all."""
    protocol: ToyProtocol = field(default_factory=ToyProtocol)
    """How much is measured."""
    results: Path = RESULTS
    """Where the folder of the runs and RESULTS.md are. Elsewhere than here, the top README is left alone."""

    @property
    def folder(self) -> Path:
        """The folder of the results and of the networks on the published schedule."""
        return self.results / f"toy{self.suffix}"

    @property
    def plan(self) -> Plan:
        """How the runs are made."""
        return Plan(TOY, self.folder, self.protocol, self.scale, prepared)


def pretrain_missing(runs: Sequence[Run], config: ToyConfig) -> int:
    """Pretrain the networks that ``runs`` share, before they begin; returns how many failed."""
    levels = sorted({run.task.num_steps for run in runs if run.task.denoiser == PUBLISHED})
    jobs = [Job(pretrain_published, (level, config.folder, config.scale)) for level in levels]
    return run_all(jobs, config.processes)


def read(config: ToyConfig) -> Record:
    """The results, those of an interrupted call included; ValueError where a run is none of the table's."""
    merge_parts(config.folder)
    return load(config.folder, [TOY])


def main(config: ToyConfig) -> int:
    """Run what is missing, write the report; returns the number of failed runs."""
    wanted, record, failed = TOY.selected(config.rows, (), config.seeds), read(config), 0
    if config.measure_only:
        failed = measure_saved(wanted, config.plan, record, config.processes)
        record = read(config)
    elif not config.report_only:
        failed += pretrain_missing(missing(wanted, config.plan, record), config)
        failed += run_missing(wanted, config.plan, record, config.processes)
        record = read(config)
    print(write_report(record.entries, TOY, config.folder, config.results / f"RESULTS{config.suffix}.md"))
    if config.folder == RESULTS / "toy":
        write_readme(HERE.parent / "README.md", record.entries, TOY)
    return failed


if __name__ == "__main__":
    command(ToyConfig, main)
