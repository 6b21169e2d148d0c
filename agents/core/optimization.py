"""One optimizer step, its size, and the refusal to take it where a number is not finite, on one rank or on many."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from agents.core.ranks import ALONE, Ranks

Weights = tuple[Tensor, ...] | list[Tensor]


def decayed(base: float, schedule: str, progress_remaining: float) -> float:
    """The step size now: ``base``, or ``base`` times what remains of the run."""
    return base * progress_remaining if schedule == "linear" else base


def averaging(decay: float, width: float | None) -> Callable[[Weights, Weights, Tensor | int], None]:
    """The `multi_avg_fn` of `AveragedModel`, for weights of any shape: with ``decay`` per step, or `power_average` of
    a ``width`` that is not None."""
    return get_ema_multi_avg_fn(decay) if width is None else power_average(width)


def power_average(width: float) -> Callable[[Weights, Weights, Tensor | int], None]:
    """The average of weights, tensors of any shape, over steps t = 0 ... n, weighted by t^gamma.

    What it returns is a `multi_avg_fn` of `AveragedModel`.

    ``width``: the standard deviation of these weights over t, as a share of n; gamma is the root of
    (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = width^2. The average of a run is then over its last share, whatever its
    length. Source: power-function EMA, Karras et al., CVPR 2024, arXiv 2312.02696, section 3.1 and appendix C.
    """
    gamma = float(np.roots([1, 7, 16 - width**-2, 12 - width**-2]).real.max())

    @torch.no_grad()
    def update(averaged: Weights, newest: Weights, count: Tensor | int) -> None:
        share = 1 - (1 - 1 / (count + 1)) ** (gamma + 1)  # of the newest weights; 0-d, on their device
        for old, new in zip(averaged, newest, strict=True):
            old.lerp_(new, torch.as_tensor(share, device=old.device, dtype=old.dtype))

    return update


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the step size of every parameter group, times the group's "lr_scale" where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


class LaterChecks:
    """Values whose finiteness is read later: `refuse_non_finite` for an accelerator.

    To read a number from there, the host must wait until the device has done all its work. So magnitudes are kept on
    the device, and `settle`, once an iteration, reads them all.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[Tensor]] = {}

    def add(self, **values: Tensor) -> Tensor:
        """Take note of ``values`` (any shape); whether all are finite, on their device (0-d bool)."""
        largest = [value.detach().abs().max() for value in values.values()]  # NaN if any is
        for name, magnitude in zip(values, largest, strict=True):
            self._kept.setdefault(name, []).append(magnitude)
        return torch.stack(largest).isfinite().all()

    def settle(self, iteration: int, ranks: Ranks = ALONE) -> None:
        """As `refuse_non_finite`, of the largest magnitude under each name since the last call, in the order added."""
        kept, self._kept = self._kept, {}
        if kept:
            refuse_non_finite(iteration, ranks, None, **{name: torch.stack(found) for name, found in kept.items()})


def refuse_non_finite(
    iteration: int, ranks: Ranks = ALONE, later: LaterChecks | None = None, **values: Tensor
) -> Tensor | None:
    """Raise FloatingPointError, on all ranks, that names the first of ``values`` (any shape) that is not finite.

    Looks at the device once; with ``later`` not at all: then it raises nothing, and returns `LaterChecks.add` of them.
    """
    if later is not None:
        return later.add(**values)
    # The sum is the fastest test, but finite values can overflow it: only then each one is looked at.
    sums = zip(values.items(), torch.stack([value.sum() for value in values.values()]).tolist(), strict=True)
    bad = {name: value for (name, value), total in sums if not (math.isfinite(total) or value.isfinite().all())}
    if ranks.agree(not bad):
        return None
    if not bad:
        raise FloatingPointError(f"A value became infinite or NaN on another rank in iteration {iteration}; see there.")
    name, value = next(iter(bad.items()))
    raise FloatingPointError(
        f"{name} became {value[~value.isfinite()][0].item()} in iteration {iteration}. Lower the learning rates or "
        "clip the gradient (max_grad_norm)."
    )


def descend(
    name: str,
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    max_grad_norm: float | None = None,
    ranks: Ranks = ALONE,
    later: LaterChecks | None = None,
) -> Tensor:
    """One step on ``loss`` (0-d), the mean over this rank's batch; the gradient is the mean over the ranks.

    Returns the gradient's Euclidean norm (0-d) before it was clipped to ``max_grad_norm``. Raises FloatingPointError
    that names ``name``, before any weight has changed, unless loss and norm are finite. With ``later`` nothing is read
    or raised here: the device itself makes no step where they are not finite, if ``optimizer`` is a fused Adam.
    """
    optimizer.zero_grad()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    loss.backward(inputs=weights)  # a loss that runs through critic and value leaves no gradient there
    ranks.reduce_gradients(weights)
    norm = nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
    if max_grad_norm is not None:
        nn.utils.clip_grads_with_norm_(weights, max_grad_norm, norm)
    told: Any = optimizer
    found = {f"{name}_loss": loss.detach(), f"{name}_grad_norm": norm}
    finite = refuse_non_finite(iteration, ranks, later, **found)
    if finite is not None:
        told.found_inf = (~finite).float()  # as torch.amp.GradScaler tells a fused optimizer
    optimizer.step()
    return norm
