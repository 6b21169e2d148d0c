"""``ddpm-shortcut evaluate``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from agents.commands.options import BASELINES, Evaluate
from agents.core.ipm_agent import IPMAgent
from agents.core.persistence import versions
from agents.runs.callbacks import CHECKPOINT
from agents.runs.report import Row, format_table, row_name, untouched_rows
from agents.zoo import load_agent
from diffusion_env.assembly import usable_device
from diffusion_env.checkpoints import write_json
from diffusion_env.config import EvaluationConfig
from diffusion_env.evaluation.protocol import floor


def run(options: Evaluate, command: str) -> None:
    """Measure, print the table and write the JSON file asked for."""
    torch.set_num_threads(options.threads)
    rows, floor_row = _trained(options) if options.checkpoint is not None else _untouched(options, BASELINES)
    print(format_table(rows, floor_row))
    if options.output is not None:
        result = {"rows": rows, "floor": floor_row, "evaluation": asdict(options.evaluation), "command": command}
        print(f"Wrote {write_json(options.output, {**result, 'versions': versions()})}")


def _trained(options: Evaluate) -> tuple[list[Row], Row]:
    assert options.checkpoint is not None
    agent = load_agent(checkpoint_in(options.checkpoint), device=usable_device(options.device))
    ours = trained_row(agent, options.evaluation)
    if options.samplers is None:
        return [ours], {"name": "floor", "num_steps": None, **floor(agent.envs.dataset, options.evaluation)}
    dataset, denoiser = agent.env_kwargs.get("dataset", "swiss_roll"), agent.env_kwargs.get("denoiser")
    others, floor_row = untouched_rows(
        dataset, denoiser, options.samplers, options.evaluation, options.device, options.threads
    )
    return [*others, ours], floor_row


def _untouched(options: Evaluate, default: tuple[str, ...]) -> tuple[list[Row], Row]:
    samplers = default if options.samplers is None else options.samplers
    return untouched_rows(
        options.dataset, options.denoiser, samplers, options.evaluation, options.device, options.threads
    )


def trained_row(agent: IPMAgent, config: EvaluationConfig) -> Row:
    """The row of a trained agent."""
    return {"name": agent_name(agent), "num_steps": agent.envs.table.num_steps, **agent.evaluate(config)}


def agent_name(agent: IPMAgent) -> str:
    """As it stands in tables: SFT-PG-10."""
    return row_name(agent.name, agent.envs.table.num_steps)


def checkpoint_in(path: Path) -> Path:
    """The agent's file, given it or the folder of its run."""
    return path / CHECKPOINT if path.is_dir() else path
