"""Makes a `DenoisingProcess` from the keywords of ``gym.make``; what the single and the vector environment share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from diffusion_env.critics import Critic, make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.loading import load_denoiser, shipped_weights
from diffusion_env.fields import Bounds, Count, check_fields
from diffusion_env.process import REWARD_BATCH, ActionMode, DenoisingProcess
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import DEFAULT_SCHEDULE, make_schedule
from diffusion_env.samplers.tables import StepTable

ACTION_BOUND = 10.0
"""Half-width of the action box; `DDPMShortcutEnv` says how often the pretrained sampler leaves it."""

RENDER_MODES = ["rgb_array"]

ObservationKind = Literal["dict", "flat"]

if hasattr(os, "register_at_fork"):  # AsyncVectorEnv forks where Python does
    # A forked process has none of its parent's threads. If torch may use more than one thread, it waits for them there
    # for ever.
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


@dataclass(frozen=True)
class EnvArguments:
    """What the single and the vector environment share of their arguments; `DDPMShortcutEnv` describes each.

    Numbers of numpy become Python's.

    Raises TypeError for an argument of another type than its annotation, ValueError for one out of its bounds; each
    names the argument, what is allowed and what was received.
    """

    num_envs: Count
    dataset: str | Path | Dataset
    num_steps: Annotated[int, Bounds(1, 1_000_000)]
    sampler: str | StepTable
    action_mode: ActionMode
    denoiser: str | Path | Callable[..., Any] | None
    critic: str | Path | Critic | Callable[..., Any]
    critic_kwargs: Mapping[str, Any] | None
    train_critic: bool
    observation: ObservationKind
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("dataset", "sampler", "denoiser", "critic"):
            value = getattr(self, name)
            if isinstance(value, str) and not value.strip():
                raise ValueError(f"{name} is an empty string. Give a name or a path, or leave it out for the default.")
            if isinstance(value, type):
                raise TypeError(
                    f"{name} must be an object, not a class; received the class {value.__name__}. Make one of it first."
                )


def build_process(arguments: EnvArguments) -> DenoisingProcess:
    """Resolve names to objects; every unknown name raises an error that lists the known ones."""
    data = load_dataset(arguments.dataset).to(usable_device(arguments.device))
    network = reference_denoiser(arguments.denoiser, data)
    schedule = network.schedule if network is not None else make_schedule(DEFAULT_SCHEDULE)
    table = make_table(arguments.sampler, schedule, arguments.num_steps)
    check_every_step_moves(table)
    critic = make_critic(arguments.critic, data.shape, kwargs=arguments.critic_kwargs)
    check_memory(arguments.num_envs, arguments.num_steps if critic.wants_trajectory else 0, data)
    return DenoisingProcess(
        dataset=data,
        table=table,
        critic=critic.to(data.device),
        num_envs=arguments.num_envs,
        action_mode=arguments.action_mode,
        denoiser=network,
        train_critic=arguments.train_critic,
        owns_critic=not isinstance(arguments.critic, Critic),
    )


COPIES = 8
"""Arrays of the size of x that a batch of environments needs at least: states, actions, observations, their spaces."""


def check_memory(num_envs: int, kept_states: int, data: Dataset) -> None:
    """ValueError where ``num_envs`` particles, and ``kept_states`` of each, do not fit the memory of the device."""
    needed = 4 * (COPIES + kept_states) * num_envs * math.prod(data.shape)
    available = device_memory(data.device)
    if needed > available:
        raise ValueError(
            f"num_envs = {num_envs} with samples of shape {data.shape} needs at least {needed / 2**30:,.0f} GiB, but "
            f"{data.device} has {available / 2**30:,.0f} GiB. Use fewer environments and more episodes of each."
        )


def device_memory(device: torch.device) -> int:
    """Bytes of memory of the device; 2^40 where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**40


def check_every_step_moves(table: StepTable) -> None:
    """ValueError where a step of the table has no use for an action: eps_coef and std are both 0."""
    idle = torch.nonzero(table.action_scale == 0).flatten().tolist()
    if idle:
        raise ValueError(
            f"The step table {table.name!r} has eps_coef = 0 and std = 0 at the steps {idle}: there neither an action "
            "nor the denoiser moves x, and a policy has no density. Leave these steps out, or give them a std."
        )


def reference_denoiser(denoiser: str | Path | Callable[..., Any] | None, data: Dataset) -> Denoiser | None:
    """The pretrained network on the data's device; None if none is given and none is shipped."""
    if denoiser is None:
        shipped = shipped_weights(data.name)
        # A user's file can have the name of a set that we ship weights for.
        if not data.named or not shipped.is_file():
            return None
        denoiser = shipped
    network = load_denoiser(denoiser, data.name, data.shape)
    return network.to(data.device) if isinstance(network, torch.nn.Module) else network


def usable_device(device: str | torch.device) -> torch.device:
    """The torch device; ValueError if it cannot be used here."""
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
    else:
        if found.type != "meta":
            return found
        reason = "tensors on 'meta' hold no numbers"
    raise ValueError(
        f"The device {str(device)!r} cannot be used here ({reason}). Choose 'cpu', or 'cuda' where "
        "torch.cuda.is_available()."
    )


def observation_space(process: DenoisingProcess, observation: ObservationKind = "dict") -> spaces.Dict | spaces.Box:
    """Dict(x=Box(-inf, inf, shape, float32), step=Discrete(K + 1)); "flat": Box (D + 1,), x and then step / K.

    D is the number of components of one x; the last component of the Box lies in [0, 1].
    """
    if observation == "flat":
        low = np.append(np.full(math.prod(process.shape), -np.inf, np.float32), np.float32(0))
        high = np.append(np.full(math.prod(process.shape), np.inf, np.float32), np.float32(1))
        return spaces.Box(low, high, dtype=np.float32)
    return spaces.Dict(
        x=spaces.Box(-np.inf, np.inf, process.shape, np.float32),
        step=spaces.Discrete(process.table.num_steps + 1),
    )


def flat_observation(process: DenoisingProcess, x: Tensor) -> Tensor:
    """``x`` (B, *shape) and the steps done as one tensor (B, D + 1) float32: x flattened, then step / K."""
    k, num_steps = process.counts.index(), process.table.num_steps
    share = x.new_full((len(x), 1), k / num_steps) if isinstance(k, int) else (k / num_steps)[:, None]
    return torch.cat([x.flatten(1), share.to(x.dtype)], dim=1)


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

    def skip_episode(self) -> Tensor:
        """Start anew after an episode that an agent walked by itself; returns x[0] (B, *shape).

        Draws what the end of an episode draws, so that later draws are the same; scores and trains nothing.
        """
        self.process.data_batch(most=REWARD_BATCH)
        return self.process.reset().clone()

    def evaluation_arguments(self) -> dict[str, Any]:
        """Arguments of another environment of the same task, with this one's critic, which it uses and never trains."""
        return {
            "dataset": self.dataset,
            "num_steps": self.table.num_steps,
            "sampler": self.table,
            "action_mode": self.action_mode,
            "denoiser": self.denoiser,
            "critic": self.critic,
            "train_critic": False,
        }
