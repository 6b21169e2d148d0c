"""What the commands of a grid share: options, and errors that are sentences."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import tyro

from diffusion_env.checkpoints import CheckpointError


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """How a grid is run."""

    seeds: tuple[int, ...] = ()
    """Seeds; empty runs the grid's."""
    processes: int = 2
    """Runs at a time, each on one torch thread."""
    scale: float = 1.0
    """Multiple of every budget; results other than at 1 have a folder and a report of their own, with _xSCALE."""
    report_only: bool = False
    """Only rebuild the report from the results."""
    measure_only: bool = False
    """Measure the saved samplers of the finished runs again, and train nothing."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"--scale multiplies the budget and must be above 0; received {self.scale:g}.")
        if self.report_only and self.measure_only:
            raise ValueError("--report-only measures nothing and --measure-only measures; choose one of them.")
        if self.processes < 1:
            raise ValueError(f"--processes must be an integer >= 1; received {self.processes}.")

    @property
    def suffix(self) -> str:
        """ "" at scale 1."""
        return "" if self.scale == 1 else f"_x{self.scale:g}"


Options = TypeVar("Options", bound=GridOptions)


def command(options: type[Options], main: Callable[[Options], int]) -> None:
    """Read the command line, call ``main`` and exit: 0, or 1 with a sentence or after a run that failed."""
    try:
        failed = main(tyro.cli(options))
    except (ValueError, ImportError, OSError, CheckpointError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt as error:
        print(f"{str(error) or 'interrupted'}; the same command goes on where it stopped", file=sys.stderr)
        sys.exit(int(getattr(error, "exit_code", 130)))
    sys.exit(min(1, failed))
