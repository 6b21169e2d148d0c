"""``ddpm-shortcut evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from agents.commands.options import BASELINES, Evaluate
from agents.core.algorithm import Algorithm
from agents.core.persistence import versions
from agents.runs.report import Row, format_table, measured_floor, trained_row, untouched_rows
from agents.zoo import load_agent
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import write_json


def run(options: Evaluate, command: str) -> None:
    """Measure, print the table and write the JSON file asked for."""
    torch.set_num_threads(options.threads)
    rows, floor_row = _trained(options) if options.checkpoint is not None else _untouched(options)
    print(format_table(rows, floor_row))
    if options.output is not None:
        result = {"rows": rows, "floor": floor_row, "evaluation": asdict(options.evaluation), "command": command}
        print(f"Wrote {write_json(options.output, {**result, 'versions': versions()})}")


def _trained(options: Evaluate) -> tuple[list[Row], Row]:
    assert options.checkpoint is not None
    algorithm = loaded(options.checkpoint, options.task.device, options.algo, options.trust_paths)
    ours = trained_row(algorithm, options.evaluation)
    if options.samplers is None:
        return [ours], measured_floor(algorithm.dataset, options.evaluation)
    others, floor_row = untouched_rows(algorithm.task, options.samplers, options.evaluation, options.threads)
    return [*others, ours], floor_row


def _untouched(options: Evaluate) -> tuple[list[Row], Row]:
    samplers = BASELINES if options.samplers is None else options.samplers
    return untouched_rows(options.task, samplers, options.evaluation, options.threads)


def loaded(path: Path, device: str, algo: str | None, trust_paths: bool) -> Algorithm:
    """The algorithm of a file, or of the folder of its run; ``algo`` is the user's own, FILE:NAME."""
    given = () if algo is None else (algo,)
    found: Algorithm = load_agent(path, usable_device(device), given, trust_paths=trust_paths)
    return found
