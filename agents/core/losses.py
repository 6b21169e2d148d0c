r"""What every algorithm computes from its trajectories: pure functions of tensors; a loss returns ``(loss, metrics)``.

Letters: K steps, n trajectories; x[k] (*shape) the state after k steps; V(x[k], k) the value; f(x_0) the critic's
score; p the policy's density of a step, summed over the event. A loss and each of its metrics are 0-d tensors on one
device: nothing waits for it. The losses on theta are the algorithms' own (`agents.algorithms`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.core.shapes import check_shapes

Metrics = dict[str, Tensor]
Loss = tuple[Tensor, Metrics]


@torch.no_grad()
def ratio_error(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Largest |p_now / p_then - 1| (0-d) of log p now and then, both of one shape: 0 up to rounding as long as the
    policy is the one that acted."""
    check_shapes(log_prob=(log_prob, "..."), old_log_prob=(old_log_prob, "..."))
    return (log_prob - old_log_prob).expm1().abs().max()


def value_loss(value: Tensor, target: Tensor) -> Loss:
    """Mean squared error of V(x[k], k) (K, n) to its target (K, n) (algorithm 1: f(x_0) at every step).

    No gradient flows into the target. Metrics: value_loss, explained_variance.
    """
    check_shapes(value=(value, "K n"), target=(target, "K n"))
    target = target.detach()
    loss = (value - target).square().mean()
    return loss, {"value_loss": loss.detach(), "explained_variance": explained_variance(value.detach(), target)}


def explained_variance(value: Tensor, target: Tensor) -> Tensor:
    """1 - Var[target - V] / Var[target] (0-d) of V and its target (K, n): 1 is exact, 0 no better than a constant."""
    check_shapes(value=(value, "K n"), target=(target, "K n"))
    left, whole = (target - value).var(correction=0), target.var(correction=0)
    return 1 - left / whole.clamp(min=torch.finfo(target.dtype).tiny)


def mean_difference_z(a: Tensor, b: Tensor) -> float:
    """(mean a - mean b) in standard errors of that difference, of two independent samples (n,) and (m,)."""
    check_shapes(a=(a, "n"), b=(b, "m"))
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    return float((a.mean() - b.mean()) / error.clamp(min=torch.finfo(a.dtype).tiny))


def velocity_cost(x: Tensor, x_next: Tensor, event_dims: int) -> Tensor:
    """|x[k+1] - x[k]|^2 / 2 summed over the event, (*batch,), of states (*batch, *shape) (Yoon et al. 2024, with unit
    scale)."""
    check_shapes(x=(x, "..."), x_next=(x_next, "..."))
    return 0.5 * (x_next - x).square().flatten(-event_dims).sum(-1)
