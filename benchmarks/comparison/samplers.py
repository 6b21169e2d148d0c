"""Trained samplers as files, so that a new metric needs no new training.

One file for each trained run, ``FOLDER/samplers/ENTRY/TASK_seedN.safetensors``, 200 to 600 kB, which git ignores: the
weights of the sampler, its critic, the step table it walks, and the settings that it was trained with.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from agents.core.algorithm import Algorithm
from agents.core.ipm_agent import IPMAgent
from agents.sb3.run import SB3Run
from benchmarks.comparison.grid import Run, task_name
from diffusion_env.checkpoints import SUFFIX, CheckpointError, Header, load_module, load_object, save_object

KIND = "sampler"
FOLDER = "samplers"


def sampler_path(folder: Path, run: Run) -> Path:
    """Where the sampler of ``run`` is, if the results are in ``folder``."""
    task = task_name(run.task).replace("/", "_")
    return folder / FOLDER / run.entry.name / f"{task}_seed{run.seed}{SUFFIX}"


def network_of(algorithm: Algorithm) -> nn.Module | None:
    """The module whose weights are the sampler, None where an algorithm has none to show (a function of a user)."""
    if isinstance(algorithm, IPMAgent):
        return algorithm.sampler
    return algorithm.model.policy if isinstance(algorithm, SB3Run) else None


def step_table(algorithm: Algorithm) -> dict[str, Tensor]:
    """Columns (K,) of the table that the sampler walks, with its own standard deviations where it has them."""
    table = algorithm.sampler.deployed_table if isinstance(algorithm, IPMAgent) else None
    if isinstance(algorithm, SB3Run):
        table = algorithm.env.table
    return {} if table is None else {name: getattr(table, name) for name in ("x_coef", "eps_coef", "std", "time")}


def save_sampler(path: Path, algorithm: Algorithm, settings: dict[str, Any]) -> Path | None:
    """Write the sampler, its critic and the training ``settings`` (JSON); None, and no file, without a network."""
    network = network_of(algorithm)
    if network is None:
        return None
    critic = None if algorithm.critic is None else algorithm.critic.state_dict()
    state = {"network": network.state_dict(), "table": step_table(algorithm), "critic": critic}
    path.parent.mkdir(parents=True, exist_ok=True)
    return save_object(path, Header(KIND, algorithm.name, settings), state)


def restore_sampler(
    path: Path,
    algorithm: Algorithm,
    settings: dict[str, Any],
    same: Callable[[dict[str, Any], dict[str, Any]], bool] = operator.eq,
) -> None:
    """Put what `save_sampler` wrote into ``algorithm``, made as the one that was trained, which then samples as it did.

    ``same``: whether recorded settings, its first argument, are ``settings``, its second.

    Raises:
        CheckpointError: the file is missing or damaged, was trained with other settings, or does not fit.
    """
    state, header = load_object(path, KIND)
    if not same(header.config, settings):
        raise CheckpointError(
            f"{path} was trained with {header.config}, and the run has {settings}. Train the run again: the command "
            "without --measure-only does."
        )
    network = network_of(algorithm)
    if network is None or not isinstance(state, dict) or not {"network", "table", "critic"} <= state.keys():
        raise CheckpointError(f"{path} is no sampler of {algorithm.name}. Delete it and train the run again.")
    load_module(network, state["network"], f"The sampler in {path}")
    if algorithm.critic is not None and state["critic"] is not None:
        algorithm.critic.load_state_dict(state["critic"])
    own = step_table(algorithm)
    if own.keys() != state["table"].keys() or any(not own[name].equal(state["table"][name]) for name in own):
        raise CheckpointError(
            f"{path} walks another step table than {algorithm.name} has in this version: its samples would be others. "
            "Train the run again."
        )
