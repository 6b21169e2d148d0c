"""One optimizer step, its size, and the refusal to take it when a number is not finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def decayed(base: float, schedule: str, progress_remaining: float) -> float:
    """The step size now: ``base``, or ``base`` times what remains of the run."""
    return base * progress_remaining if schedule == "linear" else base


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the step size of every parameter group, times the group's "lr_scale" where it has one."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def refuse_non_finite(iteration: int, **values: Tensor) -> None:
    """Raise FloatingPointError that names the first of ``values`` that is not finite; looks at the device once."""
    finite = torch.stack([value.isfinite().all() for value in values.values()])
    if bool(finite.all()):
        return
    name = list(values)[finite.tolist().index(False)]
    bad = values[name][~values[name].isfinite()]
    raise FloatingPointError(
        f"{name} became {bad[0].item()} in iteration {iteration}. Lower the learning rates or clip the gradient "
        "(max_grad_norm)."
    )


def descend(
    name: str,
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    iteration: int,
    max_grad_norm: float | None = None,
) -> Tensor:
    """One step on ``loss``; returns the gradient's Euclidean norm before it was clipped to ``max_grad_norm``.

    Raises FloatingPointError that names ``name``, before any weight has changed, unless loss and norm are finite.
    """
    optimizer.zero_grad()
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    loss.backward(inputs=weights)  # a loss that runs through critic and value leaves no gradient there
    norm = nn.utils.clip_grad_norm_(weights, float("inf") if max_grad_norm is None else max_grad_norm)
    refuse_non_finite(iteration, **{f"{name}_loss": loss.detach(), f"{name}_grad_norm": norm})
    optimizer.step()
    return norm
