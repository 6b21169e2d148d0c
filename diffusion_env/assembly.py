"""From the keywords of ``gym.make`` to a `DenoisingProcess` and its spaces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

from diffusion_env.critics import Critic, make_critic
from diffusion_env.datasets import Dataset, load_dataset
from diffusion_env.denoisers import Denoiser, load_denoiser
from diffusion_env.process import ActionMode, DenoisingProcess
from diffusion_env.schedules import DEFAULT_SCHEDULE, make_schedule
from diffusion_env.tables import StepTable, make_table

ACTION_BOUND = 6.0
"""Half-width of the action box. Under the pretrained sampler a component of a "residual" action is exactly N(0, 1) and
leaves the box with probability 2.0e-9; "step" actions are scaled to about unit variance for the same box."""


def build_process(
    num_envs: int,
    dataset: str | Path | Dataset,
    num_steps: int,
    sampler: str | StepTable,
    action_mode: ActionMode,
    denoiser: str | Path | Denoiser | None,
    critic: str | Path | Critic,
    train_critic: bool,
    device: str | torch.device,
) -> DenoisingProcess:
    """Resolve names to objects; every unknown name raises an error that lists the known ones."""
    data = load_dataset(dataset).to(device)
    network = reference_denoiser(denoiser, data, required=action_mode == "residual")
    schedule = network.schedule if network is not None else make_schedule(DEFAULT_SCHEDULE)
    return DenoisingProcess(
        dataset=data,
        table=make_table(sampler, schedule, num_steps),
        critic=make_critic(critic, data.shape).to(device),
        num_envs=num_envs,
        action_mode=action_mode,
        denoiser=network,
        train_critic=train_critic,
        owns_critic=not isinstance(critic, Critic),
    )


def reference_denoiser(
    denoiser: str | Path | Denoiser | None, data: Dataset, required: bool
) -> Denoiser | None:
    """The pretrained network on the data's device; None if none is given, none is shipped and none is needed."""
    try:
        network = load_denoiser(denoiser, data.name, data.shape)
    except FileNotFoundError:
        if required or denoiser is not None:
            raise
        return None
    return network.to(data.device) if isinstance(network, torch.nn.Module) else network


def observation_space(process: DenoisingProcess) -> spaces.Dict:
    """Dict(x=Box(-inf, inf, shape, float32), step=Discrete(K + 1))."""
    return spaces.Dict(
        x=spaces.Box(-np.inf, np.inf, process.shape, np.float32),
        step=spaces.Discrete(process.table.num_steps + 1),
    )


def action_space(process: DenoisingProcess) -> spaces.Box:
    """Box(-ACTION_BOUND, ACTION_BOUND, shape, float32)."""
    return spaces.Box(-ACTION_BOUND, ACTION_BOUND, process.shape, np.float32)
