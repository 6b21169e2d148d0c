"""Rows of results: measured, put into a table, and the short form written to result.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from agents.core.algorithm import Algorithm
from agents.core.task import Task
from agents.runs.untouched import Untouched
from diffusion_env.assembly import usable_device
from diffusion_env.config import EvaluationConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.evaluation.protocol import floor

Row = dict[str, Any]
EYES = ("auc_boosting", "auc_neighbours", "refitted_ipm")
SHORT = ("name", "num_steps", "sw2_mean", "sw2_low", "sw2_high", "w1_mean", "off_support", *EYES)


def split_sampler(text: str) -> tuple[str, int]:
    """("ddpm", 100) from "ddpm-100"; ValueError for another form."""
    name, dash, steps = text.rpartition("-")
    if not dash or not steps.isdecimal():
        raise ValueError(f"A sampler is written NAME-STEPS, for example ddpm-100 or ddim-10; received {text!r}.")
    return name, int(steps)


def row_name(sampler: str, num_steps: int) -> str:
    """As it stands in tables: DDPM-100."""
    return f"{sampler.upper().replace('_', '-')}-{num_steps}"


def untouched_rows(
    task: Task, samplers: Sequence[str], config: EvaluationConfig, threads: int = 1
) -> tuple[list[Row], Row]:
    """A row for each of ``samplers`` ("ddpm-100") of the task's pretrained network, untouched, and the floor.

    Takes and returns plain values, so that another process can be asked for it.
    """
    torch.set_num_threads(threads)
    chosen = [split_sampler(text) for text in samplers]
    walked = [Untouched(replace(task, sampler=name, num_steps=steps)) for name, steps in chosen]
    data = walked[0].dataset if walked else load_dataset(task.dataset).to(usable_device(task.device))
    rows = [
        {"name": row_name(name, steps), "num_steps": steps, **one.evaluate(config)}
        for (name, steps), one in zip(chosen, walked, strict=True)
    ]
    return rows, measured_floor(data, config)


def measured_floor(data: Dataset, config: EvaluationConfig) -> Row:
    """The row of fresh data against fresh data."""
    return {"name": "floor", "num_steps": None, **floor(data, config)}


def trained_row(algorithm: Algorithm, config: EvaluationConfig) -> Row:
    """The row of a trained algorithm."""
    steps = algorithm.task.num_steps
    return {"name": row_name(algorithm.name, steps), "num_steps": steps, **algorithm.evaluate(config)}


def short(row: Mapping[str, Any]) -> Row:
    """The keys of a row that result.json promises."""
    return {key: row[key] for key in SHORT}


def format_table(rows: Sequence[Mapping[str, Any]], floor_row: Mapping[str, Any]) -> str:
    """Rows and the floor as text: SW2 and W1 in 1e-2 data units, and SW2 as a multiple of the floor's.

    The AUC (0.5: samples and data cannot be told apart) is that of boosting and of nearest neighbours; the last column
    is the IPM of a critic that was trained anew, on the first seed. A dash: not measured.
    """
    heading = (
        *("sampler", "SW2 x 1e-2", "95 % interval", "x floor", "W1 x 1e-2", "off support"),
        *("AUC boosting", "AUC neighbours", "refitted IPM"),
    )
    body = [_cells(row, floor_row["sw2_mean"]) for row in (*rows, floor_row)]
    widths = [max(len(cells[i]) for cells in (heading, *body)) for i in range(len(heading))]
    lines = ["   ".join(_aligned(cells, widths)).rstrip() for cells in (heading, *body)]
    rule = "-" * (sum(widths) + 3 * (len(widths) - 1))
    return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def _cells(row: Mapping[str, Any], floor_sw2: float) -> tuple[str, ...]:
    interval = "" if row["sw2_low"] is None else f"{100 * row['sw2_low']:.2f} ... {100 * row['sw2_high']:.2f}"
    return (
        row["name"],
        f"{100 * row['sw2_mean']:.2f}",
        interval,
        f"{row['sw2_mean'] / floor_sw2:.2f}",
        f"{100 * row['w1_mean']:.2f}",
        f"{100 * row['off_support']:.2f} %",
        *("-" if row[name] is None else f"{row[name]:.3f}" for name in EYES),
    )


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cells[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]
