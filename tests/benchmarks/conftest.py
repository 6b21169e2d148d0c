"""Made-up results of a grid: files as benchmarks.compare writes them, with the numbers a test wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison.grids import FLOOR, REFERENCES, UNTOUCHED, Entry, Grid, Run, Task
from diffusion_env.checkpoints import write_json

ROLL, RING = Task("swiss_roll", 10), Task("gaussians8", 2)
BUDGET = {10: 1_000, 2: 1_000}
TINY = Grid("tiny", "A made-up grid", (Entry("sft_pg", "sft_pg"), Entry("ppo", "ppo")), (ROLL, RING), BUDGET, 3)
UNTOUCHED_SW2, FLOOR_SW2 = 0.5, 0.1

Write = Callable[..., Path]


def made_up(run: Run, sw2: float | None, **changes: Any) -> dict[str, Any]:
    """A result whose every metric is ``sw2``; diverged for None."""
    reference = run.entry.name in REFERENCES
    metrics = None if sw2 is None else {"sw2": [sw2, sw2], **{name: [sw2] for name in METRICS}, "mode_coverage": [None]}
    costs = {"timesteps": 1_000, "network_evaluations": 3_000, "train_cpu_seconds": 7.0, "training_ipm": 0.25}
    curve = [{"num_timesteps": 0, "sw2": UNTOUCHED_SW2}, {"num_timesteps": 500, "sw2": 0.3 if sw2 is None else sw2}]
    return {
        "entry": run.entry.name,
        "task": {"dataset": run.task.dataset, "num_steps": run.task.num_steps},
        "seed": run.seed,
        "settings": {"total_timesteps": 0 if reference else 1_000},
        "status": "finished" if sw2 is not None else "diverged",
        "error": "",
        "metrics": metrics,
        "machine": {"processor": "a processor", "cores": 2},
        "commit": "0123",
        "versions": {"torch": "2"},
        **({"curve_sw2": sw2} if reference else {"curve": curve, **costs}),
        **changes,
    }


METRICS = ("w1", "mmd", "held_out_critic", "off_support", "recall")


@pytest.fixture
def tiny() -> Grid:
    """Two entries, two tasks, three seeds; untouched is 0.5 and the floor 0.1 everywhere."""
    return TINY


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write(sft_pg=0.1, ppo=None)``: the references and, for every task and seed, one result per entry."""

    def write(**sw2: float | None) -> Path:
        values = {UNTOUCHED: UNTOUCHED_SW2, FLOOR: FLOOR_SW2, **sw2}
        for run in TINY.runs():
            if run.entry.name in values:
                write_json(tmp_path / "runs" / run.path, made_up(run, values[run.entry.name]))
        return tmp_path / "runs"

    return write
