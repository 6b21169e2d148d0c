"""The state of a stable-baselines3 model as plain tensors and numbers: no pickle, and enough to go on.

What is kept: networks and optimizers, the replay buffer, the environments, the critic, counters, the last observation,
and the states of torch's and numpy's global generators, from which these algorithms draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from torch import Tensor

from agents.sb3.relabelling import RelabellingReplayBuffer
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.checkpoints import load_module, load_optimizer
from diffusion_env.fields import Bounds, checked

COUNTERS = ("num_timesteps", "_total_timesteps", "_n_updates", "_episode_num", "_current_progress_remaining")
ARRAYS = ("actions", "rewards", "dones", "timeouts")
"""Of a replay buffer, beside its observations."""


def model_state(model: BaseAlgorithm, env: DDPMShortcutVecEnv) -> dict[str, Any]:
    """Everything that a resume needs; see the module."""
    return {
        "parameters": model.get_parameters(),
        "variables": {name: value.detach().clone() for name, value in _variables(model).items()},
        "counters": {name: getattr(model, name) for name in COUNTERS if hasattr(model, name)},
        "last": [_tensors(model._last_obs), _tensors(model._last_episode_starts)],
        "episodes": [[float(info["r"]), int(info["l"])] for info in model.ep_info_buffer or ()],
        "replay": _replay_state(model),
        "envs": env.envs.state_dict(),
        "critic": env.critic.state_dict(),
    }


def restore_model(model: BaseAlgorithm, env: DDPMShortcutVecEnv, state: Mapping[str, Any]) -> None:
    """Put `model_state` back. Raises CheckpointError, KeyError, TypeError or ValueError where it does not fit."""
    parameters = state["parameters"]
    if set(parameters) != set(model.get_parameters()):
        raise ValueError(f"it holds {sorted(parameters)}, not {sorted(model.get_parameters())}")
    for name, saved in parameters.items():
        part: Any = attrgetter(name)(model)
        if isinstance(part, torch.optim.Optimizer):
            load_optimizer(part, saved, f"its {name}")
        else:
            load_module(part, saved, f"its {name}")
    with torch.no_grad():
        for name, value in _variables(model).items():
            value.copy_(state["variables"][name])
    for name, value in state["counters"].items():
        if name in COUNTERS:
            setattr(model, name, checked(value, float, name))
    model._last_obs, model._last_episode_starts = (_arrays(part) for part in state["last"])
    if state["episodes"]:
        kept = [{"r": reward, "l": length} for reward, length in state["episodes"]]
        model.ep_info_buffer = deque(kept, maxlen=model._stats_window_size)
        model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    _restore_replay(model, state["replay"])
    env.critic.load_state_dict(state["critic"])
    env.envs.load_state_dict(state["envs"])


def random_state() -> dict[str, Any]:
    """The states of torch's and numpy's global generators."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    numpy_state = [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(cached)]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy_state}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put `random_state` back."""
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002


def _variables(model: BaseAlgorithm) -> dict[str, Tensor]:
    """Tensors that are no module's, such as SAC's log_ent_coef."""
    return {name: getattr(model, name) for name in model._get_torch_save_params()[1]}


def _replay_state(model: BaseAlgorithm) -> dict[str, Any] | None:
    """The filled part of the replay buffer; None without one."""
    buffer = getattr(model, "replay_buffer", None)
    if buffer is None:
        return None
    assert isinstance(buffer, DictReplayBuffer)  # the only kind for these observations
    filled = buffer.buffer_size if buffer.full else buffer.pos
    state: dict[str, Any] = {name: torch.from_numpy(getattr(buffer, name)[:filled].copy()) for name in ARRAYS}
    for name in ("observations", "next_observations"):
        state[name] = {key: torch.from_numpy(part[:filled].copy()) for key, part in getattr(buffer, name).items()}
    draws = buffer.reward.generator.get_state() if isinstance(buffer, RelabellingReplayBuffer) else None
    return {**state, "pos": buffer.pos, "full": buffer.full, "generator": draws}


def _restore_replay(model: BaseAlgorithm, state: Mapping[str, Any] | None) -> None:
    if state is None:
        return
    buffer: Any = model.replay_buffer  # type: ignore[attr-defined]
    for name in ARRAYS:
        _fill(getattr(buffer, name), state[name])
    for name in ("observations", "next_observations"):
        for key, part in getattr(buffer, name).items():
            _fill(part, state[name][key])
    buffer.pos = checked(state["pos"], Annotated[int, Bounds(0, buffer.buffer_size, open_high=True)], "pos")
    buffer.full = checked(state["full"], bool, "full")
    if isinstance(buffer, RelabellingReplayBuffer) and state["generator"] is not None:
        buffer.reward.generator.set_state(state["generator"].cpu())


def _fill(array: NDArray[Any], saved: Tensor) -> None:
    array[: len(saved)] = saved.numpy(force=True)


def _tensors(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _tensors(one) for key, one in part.items()}
    return None if part is None else torch.from_numpy(part.copy())


def _arrays(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _arrays(one) for key, one in part.items()}
    return None if part is None else part.numpy(force=True).copy()
