"""The contract of a critic: a learned reward that the environment cannot tell from a fixed one.

A critic is a function f, high on data and low on samples. The gap mean f(real) - mean f(fake) estimates an
integral probability metric (IPM), Phi(p, q) = sup over f in A of E_q f - E_p f; the critics differ in the
class A and in how they keep f inside it.

Letters: N real and M fake events per batch, K denoising steps, B trajectories; `*shape` is one event.
"""

from __future__ import annotations

import inspect
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import Header, save_object
from diffusion_env.fields import Count, checked
from diffusion_env.shards import WHOLE, Shard

Penalty = Callable[[Tensor], Tensor]
"""From the scores of the fake batch (M,) to a scalar that is added to the critic's loss."""


class Critic(nn.Module, ABC):
    """Scores events. Tensors are float32, in network units, on the critic's device."""

    name: ClassVar[str]
    """What a saved critic is known by; the class's own name where a class gives none."""
    wants_trajectory: ClassVar[bool] = False
    """Whether `update` needs the penalty that `trajectory_penalty` makes, when no agent passes one."""
    wants_value_penalty: ClassVar[bool] = False
    """Whether an agent's own value error is to be the penalty of `update`. If so, the agent has a value function V,
    fits it to the scores from before the critic's step, and passes the penalty
    value_loss_weight * mean (V(x[k], k) - f(x_0))^2 with V constant: V and f then descend on the same loss."""

    in_step: ClassVar[bool] = False
    """Whether `update`, called by several processes, leaves the critic the same on all: it takes means of gradients, or
    whole batches, from `shard`."""
    shard: Shard = WHOLE
    """The part of every batch that `update` is given."""

    shape: tuple[int, ...] | None
    """Shape of one event; None for a fixed reward function, which takes what it takes."""
    config: dict[str, Any]
    """JSON keywords of the constructor: what `save` writes beside the weights and `load_critic` builds from. A class
    that sets none has those that it was made with."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def __new__(cls, *arguments: Any, **keywords: Any) -> Self:
        """Remember in `config` what the constructor is called with, for classes that do not say so themselves."""
        made: Self = super().__new__(cls)
        object.__setattr__(made, "config", _keywords_of(cls, arguments, keywords))
        return made

    def __init__(self, shape: Sequence[int] | None) -> None:
        super().__init__()
        self.shape = None if shape is None else checked_shape(shape)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Scores (*batch,) of events x (*batch, *shape), high on data."""

    def reward(self, x: Tensor) -> Tensor:
        """What a step on the sampler p raises, (*batch,) of events x (*batch, *shape): minus the derivative, in p, of
        the distance that the critic maximises, up to a constant.

        f itself where the class of f is a hard one (Fan & Lee 2023, theorem 4.1). A critic whose class is kept by a
        penalty that depends on p has the penalty's derivative beside f.
        """
        scores: Tensor = self(x)
        return scores

    @abstractmethod
    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """One training step on real (N, *shape) and fake (M, *shape); N and M may differ.

        `penalty` maps the scores of `fake` (M,) to a scalar added to the loss; its gradient reaches the
        critic's weights only. Returns at least `critic_loss`, `ipm` (the gap before the step) and
        `grad_norm`.
        """

    def distance(self, real: Tensor, fake: Tensor) -> float:
        """The IPM estimate mean f(real) - mean f(fake) on real (N, *shape) and fake (M, *shape)."""
        with torch.no_grad():
            return float(self(real).mean() - self(fake).mean())

    def lipschitz(self, x: Tensor) -> float:
        """Largest Euclidean norm of the gradient of f at the events x (N, *shape): a lower bound of f's
        Lipschitz constant, measured. NaN when f is a fixed reward that autograd cannot differentiate."""
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            scores = self(x)
            if not scores.requires_grad:
                return math.nan
            (gradient,) = torch.autograd.grad(scores.sum(), x, materialize_grads=True)
        return float(gradient.flatten(scores.ndim).norm(dim=-1).max())

    @property
    def compiled_part(self) -> nn.Module | None:
        """What torch.compile is asked to compile; None, nothing, for what may not be a network at all."""
        return None

    def trajectory_penalty(self, xs: Tensor) -> Penalty | None:
        """The penalty for `update` when its fake batch is the last of the states xs (K + 1, B, *shape)."""
        return None

    def set_learning_rate(self, learning_rate: float) -> None:
        """Set the step size of the next updates. Nothing to do for a critic without an optimiser."""

    def set_slope_penalty(self, weight: float) -> None:
        """Set the weight of the slope penalty of the next updates, if the critic has one that its maker left open."""

    def reset(self, generator: torch.Generator) -> None:
        """Forget all training: new weights from a CPU generator, a new optimiser."""

    def save(self, path: str | Path) -> Path:
        """Write configuration and `state_dict` to one safetensors file; see `load_critic`.

        Raises TypeError where a keyword of the constructor was an object, which a file cannot hold.
        """
        objects = [name for name, value in self.config.items() if not _is_json(value)]
        if objects:
            raise TypeError(
                f"The critic {self.name!r} cannot be saved: it is built again from the keywords of its constructor, "
                f"and {objects} hold objects that JSON cannot. Make the class from numbers and names, or set "
                "self.config to a dict of JSON keywords that its constructor takes."
            )
        return save_object(path, Header("critic", self.name, self.config), self.state_dict())

    def check_events(self, x: Tensor, what: str) -> None:
        """Raise unless x is a float32 tensor (*batch, *shape)."""
        if self.shape is None:
            return
        rank = len(self.shape)
        if x.ndim < rank or tuple(x.shape[x.ndim - rank :]) != self.shape:
            raise ValueError(
                f"The critic {self.name!r} received {what} of shape {tuple(x.shape)}, but it was made for "
                f"events of shape {self.shape}, so it takes (*batch, {', '.join(map(str, self.shape))}). "
                f"Pass events of that shape, or make a critic for yours with make_critic({self.name!r}, "
                "shape)."
            )
        if x.dtype != torch.float32:
            raise TypeError(
                f"The critic {self.name!r} received {what} of dtype {x.dtype}, but it takes torch.float32 in "
                "network units. Convert with .float(), and map data units with dataset.from_data first."
            )

    def check_batch(self, x: Tensor, what: str) -> None:
        """Raise unless x is a float32 tensor (n, *shape) with n >= 1."""
        self.check_events(x, what)
        if self.shape is not None and (x.ndim != len(self.shape) + 1 or len(x) == 0):
            raise ValueError(
                f"The critic {self.name!r} received a {what} of shape {tuple(x.shape)}, but an update takes "
                f"one non-empty batch (n, {', '.join(map(str, self.shape))}). Flatten the batch dimensions "
                "and pass at least one event."
            )

    def check_finite(self, metrics: dict[str, float]) -> None:
        """Raise, before anything is changed, unless every term of an update is finite."""
        bad = {key: value for key, value in metrics.items() if not math.isfinite(value)}
        if bad:
            listed = ", ".join(f"{key} = {value}" for key, value in bad.items())
            raise FloatingPointError(
                f"An update of the critic {self.name!r} was refused because of {listed}; every term must be "
                "finite. Its weights are unchanged. Look for NaN or overflow in the real "
                "and fake batches first; if they are sound, lower the critic's learning rate or strengthen "
                "its regulariser."
            )


def _keywords_of(cls: type, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments by name, defaults included; shapes as lists, as JSON has them."""
    try:
        bound = inspect.signature(cls.__init__).bind(None, *arguments, **keywords)  # type: ignore[misc]
    except TypeError:  # a copy is made without arguments, and a wrong call fails in the constructor itself
        return {}
    bound.apply_defaults()
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [p.name for p in list(bound.signature.parameters.values())[1:] if p.kind in kinds]
    given = {name: bound.arguments[name] for name in named} | bound.kwargs
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def checked_shape(shape: Any) -> tuple[int, ...]:
    """``shape`` of one event; TypeError for what is no sequence of integers, ValueError for sizes below 1."""
    sizes: tuple[int, ...] = checked(list(shape) if isinstance(shape, torch.Size) else shape, Shape, "shape")
    if not sizes or math.prod(sizes) > _MOST_COMPONENTS:
        raise ValueError(
            f"A critic was asked for events of shape {sizes}, but an event needs at least one dimension and at most "
            f"{_MOST_COMPONENTS} components. Pass dataset.shape, for example (2,) or (1, 8, 8)."
        )
    return sizes


Shape = tuple[Count, ...]
_MOST_COMPONENTS = 2**24
