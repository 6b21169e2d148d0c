"""Makes a `DenoisingProcess` from the keywords of ``gym.make``; what the single and the vector environment share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from diffusion_env.critics import Critic, make_critic
from diffusion_env.critics.factory import CriticLike
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.loading import load_denoiser, shipped_weights
from diffusion_env.process import ActionMode, DenoisingProcess
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import DEFAULT_SCHEDULE, make_schedule
from diffusion_env.samplers.tables import StepTable

ACTION_BOUND = 10.0
"""Half-width of the action box; `DDPMShortcutEnv` says how often the pretrained sampler leaves it."""

RENDER_MODES = ["rgb_array"]

if hasattr(os, "register_at_fork"):  # AsyncVectorEnv forks where Python does
    # A forked process has none of its parent's threads. If torch may use more than one thread, it waits for them there
    # for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def build_process(
    num_envs: int,
    dataset: str | Path | Dataset,
    num_steps: int,
    sampler: str | StepTable,
    action_mode: ActionMode,
    denoiser: str | Path | Denoiser | None,
    critic: CriticLike,
    critic_kwargs: Mapping[str, Any] | None,
    train_critic: bool,
    device: str | torch.device,
) -> DenoisingProcess:
    """Resolve names to objects; every unknown name raises an error that lists the known ones."""
    data = load_dataset(dataset).to(usable_device(device))
    network = reference_denoiser(denoiser, data)
    schedule = network.schedule if network is not None else make_schedule(DEFAULT_SCHEDULE)
    return DenoisingProcess(
        dataset=data,
        table=make_table(sampler, schedule, num_steps),
        critic=make_critic(critic, data.shape, kwargs=critic_kwargs).to(data.device),
        num_envs=num_envs,
        action_mode=action_mode,
        denoiser=network,
        train_critic=train_critic,
        owns_critic=not isinstance(critic, Critic),
    )


def reference_denoiser(denoiser: str | Path | Denoiser | None, data: Dataset) -> Denoiser | None:
    """The pretrained network on the data's device; None if none is given and none is shipped."""
    if denoiser is None:
        shipped = shipped_weights(data.name)
        # A user's file can have the name of a set that we ship weights for; ``draw`` is set for our own sets only.
        if data.draw is None or not shipped.is_file():
            return None
        denoiser = shipped
    network = load_denoiser(denoiser, data.name, data.shape)
    return network.to(data.device) if isinstance(network, torch.nn.Module) else network


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device; ValueError if it cannot be used here."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"The device {device!r} cannot be used here ({reason}). Choose 'cpu', or 'cuda' where "
            "torch.cuda.is_available()."
        ) from error


def observation_space(process: DenoisingProcess) -> spaces.Dict:
    """Dict(x=Box(-inf, inf, shape, float32), step=Discrete(K + 1))."""
    return spaces.Dict(
        x=spaces.Box(-np.inf, np.inf, process.shape, np.float32),
        step=spaces.Discrete(process.table.num_steps + 1),
    )


def action_space(process: DenoisingProcess) -> spaces.Box:
    """Box(-ACTION_BOUND, ACTION_BOUND, shape, float32)."""
    return spaces.Box(-ACTION_BOUND, ACTION_BOUND, process.shape, np.float32)


def checked_render_mode(render_mode: str | None) -> str | None:
    """``render_mode`` if it is None or one of `RENDER_MODES`."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(f"Unknown render_mode {render_mode!r}. Choose None or one of {RENDER_MODES}.")
    return render_mode


class ProcessViews:
    """Public attributes that the single and the vector environment read from their process."""

    process: DenoisingProcess

    @property
    def critic(self) -> Critic:
        """The reward f: ``critic(x)`` scores samples (*batch, *shape) in network units, (*batch,)."""
        return self.process.critic

    @property
    def dataset(self) -> Dataset:
        """The data, with `to_data` and `from_data` between network and data units."""
        return self.process.dataset

    @property
    def table(self) -> StepTable:
        """The step table, K steps."""
        return self.process.table

    @property
    def action_mode(self) -> ActionMode:
        """What an action means: "step" or "residual"."""
        return self.process.action_mode

    @property
    def denoiser(self) -> Denoiser | None:
        """The pretrained network; None where none is given and none is shipped."""
        return self.process.denoiser

    def seed_process(self, seed: int | None, np_random: np.random.Generator) -> None:
        """Seed the process from ``np_random`` if the user gives a ``seed``, and once if none was ever given."""
        if seed is not None or not self.process.seeded:
            self.process.seed(int(np_random.integers(2**63)))
