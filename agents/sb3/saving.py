"""The state of a stable-baselines3 model as plain tensors and numbers: no pickle, and enough to go on.

What is kept: networks and optimizers, the replay buffer, the environments, the critic, counters, the last observation,
and the states of torch's and numpy's global generators, from which these algorithms draw.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import DictReplayBuffer
from torch import Tensor

from agents.sb3.relabelling import RelabellingReplayBuffer
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.checkpoints import load_module, load_optimizer
from diffusion_env.fields import Bounds, Counter, checked

COUNTERS = {
    **dict.fromkeys(("num_timesteps", "_total_timesteps", "_n_updates", "_episode_num"), Counter),
    "_current_progress_remaining": Annotated[float, Bounds(high=1.0)],  # below 0 after more steps than asked for
}
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
            value.copy_(_same_kind(state["variables"][name], value, name))
    for name, value in state["counters"].items():
        if name in COUNTERS:
            setattr(model, name, checked(value, COUNTERS[name], name))
    observation, starts = (_arrays(part) for part in state["last"])
    _check_last(observation, starts, env)
    model._last_obs, model._last_episode_starts = observation, starts
    if state["episodes"]:
        kept = [
            {"r": checked(reward, float, "a return"), "l": checked(length, Counter, "a length")}
            for reward, length in state["episodes"]
        ]
        model.ep_info_buffer = deque(kept, maxlen=model._stats_window_size)
        model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    _restore_replay(model, state["replay"])
    load_module(env.critic, state["critic"], "its critic")
    env.envs.load_state_dict(state["envs"])


def random_state() -> dict[str, Any]:
    """The states of torch's and numpy's global generators."""
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    numpy_state = [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(cached)]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch": torch.get_rng_state(), "cuda": cuda, "numpy": numpy_state}


def checked_random_state(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """`random_state` as it is read from a file, tried out on generators of their own.

    KeyError, TypeError, ValueError or RuntimeError where it is none.
    """
    for one in (state["torch"], *state["cuda"]):
        _same_kind(one, torch.empty(len(one), dtype=torch.uint8), "random state")
    torch.Generator().set_state(state["torch"].cpu())
    name, keys, position, has_gauss, cached = state["numpy"]
    _same_kind(keys, torch.empty(_NUMPY_KEYS, dtype=torch.int64), "random state")
    if not bool((keys >= 0).all() and (keys < 2**32).all()):
        raise ValueError("its random state holds keys of more than 32 bits")
    checked(name, Literal["MT19937"], "the random generator")
    checked(position, Annotated[int, Bounds(0, _NUMPY_KEYS)], "the position of the random generator")
    checked(has_gauss, Annotated[int, Bounds(0, 1)], "whether a normal number is kept")
    checked(cached, float, "the normal number that is kept")
    return state


_NUMPY_KEYS = 624
"""Words in the state of numpy's global generator."""


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
    array[: len(saved)] = _same_kind(saved, torch.from_numpy(array[: len(saved)]), "replay").numpy(force=True)


def _same_kind(saved: Any, own: Tensor, name: str) -> Tensor:
    """``saved`` if it is a tensor of ``own``'s shape and type; ValueError otherwise."""
    if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (own.shape, own.dtype):
        raise ValueError(f"its {name} is no {own.dtype} tensor of shape {tuple(own.shape)}")
    return saved


def _check_last(observation: Any, starts: Any, env: DDPMShortcutVecEnv) -> None:
    """ValueError unless these are the last observation and starts of ``env``, or both None, before there were any."""
    if observation is None and starts is None:
        return
    found, space = [*observation.values(), starts], env.observation_space
    assert isinstance(space, Dict)
    wanted = [((env.num_envs, *(part.shape or ())), part.dtype) for part in space.values()]
    wanted.append(((env.num_envs,), np.dtype(bool)))
    if [(part.shape, part.dtype) for part in found] != wanted or list(observation) != list(space):
        raise ValueError(f"its last observations are not those of {env.num_envs} environments")


def _tensors(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _tensors(one) for key, one in part.items()}
    return None if part is None else torch.from_numpy(part.copy())


def _arrays(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: _arrays(one) for key, one in part.items()}
    return None if part is None else part.numpy(force=True).copy()
