"""Saved states put back into modules and optimizers, after they were compared with them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_env.checkpoints.atomic import CheckpointError


def load_module(module: nn.Module, state_dict: Mapping[str, Any], what: str) -> None:
    """``module.load_state_dict(state_dict)`` with an error that names tensors and shapes.

    ``what`` says in the error what the state dict is, for example ``"the denoiser of runs/a"``. After an
    error the module may be partly loaded (torch copies what fits): discard it.

    Raises:
        CheckpointError: a tensor is missing, not expected, of another shape or type, or a count below 0.
    """
    own = module.state_dict()  # before: loading may replace buffers that change their shape
    try:
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"it is a {type(state_dict).__name__} and not a dict of tensors")
        if wrong := _wrong_kinds(own, state_dict):  # torch would convert them without a word
            raise TypeError("; ".join(wrong))
        module.load_state_dict(state_dict)
    except CheckpointError:
        raise
    # What is wrong with a forged state shows in many ways, and modules with a state of their own add theirs.
    except Exception as error:
        found = differences(own, state_dict) if isinstance(state_dict, Mapping) else ""
        reasons = found or " ".join(str(error).split())
        raise CheckpointError(
            f"{what} does not fit this {type(module).__name__}: {reasons}. Build the module with "
            "the event shape and hidden sizes it was saved with, or pass another checkpoint."
        ) from error


LONG_SIDES = ("width", "value_width", "num_features", "net_arch", "num_envs")
"""Names, in a header, of what some tensor of the state has a side as long as."""
LAYERS = ("depth", "value_depth")
"""Names of numbers of layers, each of which has a tensor."""
SHAPE = "shape"
"""Of an event, whose components a network has weights for."""
_BETWEEN_LAYERS = "the number of weights of net_arch"
_FREE_NUMBERS = 2**16
"""Components of an event that are taken whatever the state holds."""
_DEEPEST = 64


def refuse_larger(config: Any, state: Any) -> None:
    """ValueError where ``config``, JSON of a header, asks for a larger network than the tensors of ``state`` make.

    Called before memory is taken; sizes are known by their names, whatever they are nested in.
    """
    shapes, numbers = list(_shapes(state, _DEEPEST)), numbers_in(state)
    longest = max((max(s, default=0) for s in shapes), default=0)
    limits = dict.fromkeys(LONG_SIDES, longest) | dict.fromkeys(LAYERS, len(shapes))
    limits |= {SHAPE: max(numbers, _FREE_NUMBERS), _BETWEEN_LAYERS: numbers}
    for name, size in _sizes(config, _DEEPEST):
        if size > max(limits[name], 1):
            raise ValueError(
                f"{name} is {size}, which is too large for the file's {len(shapes)} tensors of {numbers} numbers with "
                f"sides up to {longest}"
            )


def numbers_in(state: Any) -> int:
    """How many numbers the tensors of a state hold together."""
    return sum(math.prod(shape) for shape in _shapes(state, _DEEPEST))


def _sizes(config: Any, deepest: int, name: str = "") -> Iterator[tuple[str, int]]:
    """Every number under one of the names that `refuse_larger` knows; of a shape its product."""
    if deepest == 0:
        raise ValueError(f"its header is nested in more than {_DEEPEST} levels")
    if name == SHAPE and isinstance(config, list | tuple) and all(type(side) is int for side in config):
        yield name, math.prod(config)
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from _sizes(value, deepest - 1, key if key in (*LONG_SIDES, *LAYERS, SHAPE) else name)
    elif isinstance(config, list | tuple):
        if name == "net_arch" and all(type(side) is int for side in config):
            yield _BETWEEN_LAYERS, sum(a * b for a, b in pairwise(config))
        for value in config:
            yield from _sizes(value, deepest - 1, name)
    elif name and isinstance(config, int):
        yield name, config
    elif name and isinstance(config, float):
        yield name, int(config) if math.isfinite(config) else 0


def _shapes(state: Any, deepest: int) -> Iterator[tuple[int, ...]]:
    """The shape of every tensor of a state."""
    if isinstance(state, Tensor):
        yield tuple(state.shape)
    elif deepest and isinstance(state, Mapping | list | tuple):
        for part in state.values() if isinstance(state, Mapping) else state:
            yield from _shapes(part, deepest - 1)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Any, what: str) -> None:
    """``optimizer.load_state_dict`` of a copy of ``state``, after it was compared with the parameters.

    A fused optimizer reads its moments where the parameters say they are: moments of another shape or type would end
    the interpreter and not the call. ``what`` says in the error what the state is.

    Raises:
        CheckpointError: other groups, parameters or settings than the optimizer's, or a moment that does not fit.
    """
    reason = _misfit(optimizer, state)
    if reason:
        raise CheckpointError(
            f"{what} does not fit this {type(optimizer).__name__}: {reason}. Pass another checkpoint."
        )
    optimizer.load_state_dict(copy.deepcopy(state))  # it keeps the tensors it is given; two must not share moments


def _misfit(optimizer: torch.optim.Optimizer, state: Any) -> str:
    """What keeps ``state`` from being this optimizer's; "" for nothing."""
    own = optimizer.state_dict()["param_groups"]
    if not isinstance(state, dict) or set(state) != {"state", "param_groups"}:
        return "it is not a dict of 'state' and 'param_groups'"
    groups, moments = state["param_groups"], state["state"]
    if not isinstance(groups, list) or not isinstance(moments, dict) or len(groups) != len(own):
        return f"it does not hold {len(own)} groups of parameters and a dict of moments"
    for mine, theirs in zip(own, groups, strict=True):
        if not isinstance(theirs, dict) or set(theirs) != set(mine) or not _same_indices(mine, theirs):
            return f"its groups do not hold the parameters {mine['params']} under the settings {sorted(mine)}"
        changed = [key for key in mine if key not in _MAY_CHANGE and not _same_setting(mine[key], theirs[key])]
        if changed:
            return (
                f"its settings {changed} are {[theirs[key] for key in changed]}, not {[mine[key] for key in changed]}"
            )
        if not _is_step_size(theirs.get("lr")):
            return f"its step size is {theirs.get('lr')!r}"
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for index, entries in moments.items():
        if type(index) is not int or not 0 <= index < len(weights) or not isinstance(entries, dict):
            return f"it has moments of a parameter {index!r}"
        for name, moment in entries.items():
            fits = isinstance(moment, Tensor) and moment.dtype == torch.float32
            if not fits or moment.shape not in (weights[index].shape, torch.Size([])):
                return f"its {name!r} of parameter {index} is no float32 tensor of shape {tuple(weights[index].shape)}"
            if (name == "step") != (moment.ndim == 0) and weights[index].ndim > 0:
                return f"its {name!r} of parameter {index} has shape {tuple(moment.shape)}"
            if name == "step" and not (moment.ndim == 0 and 0 <= moment < torch.inf and moment == moment.floor()):
                return f"its number of steps of parameter {index} is {moment.tolist()}, not a whole number >= 0"
    return ""


_LARGEST_STEP_SIZE = 1e30
_MAY_CHANGE = ("params", "lr", "lr_scale", "initial_lr")
"""Settings of a group that a run changes, or that are compared apart."""


def _same_indices(mine: Any, theirs: Any) -> bool:
    given = theirs["params"]
    return isinstance(given, list) and all(type(index) is int for index in given) and bool(given == mine["params"])


def _same_setting(mine: Any, theirs: Any) -> bool:
    plain = (list(value) if isinstance(value, tuple) else value for value in (mine, theirs))
    first, second = plain
    return type(first) is type(second) and bool(first == second)


def _is_step_size(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value < _LARGEST_STEP_SIZE


NAMED = 5
"""Tensors that a sentence names before it counts the others."""


def differences(own: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """What keeps the state ``given`` from loading into a module with the state ``own``, "" for nothing.

    One phrase for each tensor (any shape), of the first `NAMED` tensors.
    """
    missing = [f"tensor {name!r} is missing from it" for name in own if name not in given]
    unexpected = [f"tensor {name!r} is not expected" for name in given if name not in own]
    shapes = [
        f"tensor {name!r} has shape {tuple(new.shape)} where {tuple(tensor.shape)} is expected"
        for name, tensor, new in _in_both(own, given)
        if isinstance(new, Tensor) and new.shape != tensor.shape
    ]
    phrases = missing + unexpected + _wrong_kinds(own, given) + shapes
    more = [f"and {len(phrases) - NAMED} more such differences"] if len(phrases) > NAMED else []
    return "; ".join(phrases[:NAMED] + more)


def _wrong_kinds(own: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What is no tensor of the module's type, and counts (whole numbers without a shape) below 0; a phrase each."""
    found = []
    for name, tensor, new in _in_both(own, given):
        if not isinstance(new, Tensor):
            found.append(f"{name!r} is a {type(new).__name__} and no tensor")
        elif new.dtype != tensor.dtype:
            found.append(f"tensor {name!r} is of {new.dtype} where {tensor.dtype} is expected")
        elif new.ndim == 0 and new.dtype == torch.int64 and new < 0:
            found.append(f"the count {name!r} is {int(new)}")
    return found


def _in_both(own: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Tensor, Any]]:
    for name, tensor in own.items():
        if isinstance(tensor, Tensor) and name in given:
            yield name, tensor, given[name]
