r"""Losses of the agents: pure functions of tensors that return ``(loss, metrics)``.

Letters: A the advantage of a step; w its weight; log p = log p_theta(x[k+1] | x[k]), summed over the event;
r = p_now / p_then the probability ratio of a step. No gradient flows into A, w, scores or log p_then.
Metrics are 0-d tensors on the loss's device, so that nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.core.advantages import effective_sample_size

Metrics = dict[str, Tensor]
Loss = tuple[Tensor, Metrics]


def score_function_loss(log_prob: Tensor, advantage: Tensor) -> Loss:
    """- mean[A log p], whose gradient is the policy gradient (Fan & Lee 2023, theorem 4.1 and algorithm 1, line 12).

    ``log_prob`` and ``advantage`` have one shape; no gradient flows into the advantage.
    """
    loss = -(advantage.detach() * log_prob).mean()
    return loss, {"policy_gradient_loss": loss.detach(), "advantage_std": advantage.detach().std(correction=0)}


def clipped_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip_range: float) -> Loss:
    """- mean[min(r A, clip(r, 1 - c, 1 + c) A)] (Schulman et al. 2017, eq. 7), all of one shape.

    At r = 1 its gradient is `score_function_loss`'s. The ratio is of log-probabilities summed over the event.
    """
    advantage, gap = advantage.detach(), log_prob - old_log_prob.detach()
    ratio = gap.exp()
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    metrics = {
        "policy_gradient_loss": loss.detach(),
        "advantage_std": advantage.std(correction=0),
        "clip_fraction": ((ratio.detach() - 1).abs() > clip_range).float().mean(),
        "approx_kl": (gap.detach().expm1() - gap.detach()).mean(),
        "effective_sample_size": effective_sample_size(ratio.detach()),
    }
    return loss, metrics


@torch.no_grad()
def ratio_error(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Largest |p_now / p_then - 1| of the steps: 0 up to rounding as long as the policy is the one that acted."""
    return (log_prob - old_log_prob).expm1().abs().max()


def value_loss(value: Tensor, score: Tensor) -> Loss:
    """Mean squared error of V(x[k], k) (K, n) to its target, (n,) or (K, n); no gradient flows into the target."""
    target = score.detach()
    loss = (value - target).square().mean()
    return loss, {"value_loss": loss.detach(), "explained_variance": explained_variance(value.detach(), target)}


def explained_variance(value: Tensor, score: Tensor) -> Tensor:
    """1 - Var[f(x_0) - V] / Var[f(x_0)]: 1 is perfect, 0 no better than a constant."""
    left, whole = (score - value).var(correction=0), score.var(correction=0)
    return 1 - left / whole.clamp(min=torch.finfo(score.dtype).tiny)


def mean_difference_z(a: Tensor, b: Tensor) -> float:
    """(mean a - mean b) in standard errors of that difference, of two independent samples (n,) and (m,)."""
    error = (a.var() / len(a) + b.var() / len(b)).sqrt()
    return float((a.mean() - b.mean()) / error.clamp(min=torch.finfo(a.dtype).tiny))


def velocity_cost(x: Tensor, x_next: Tensor, event_dims: int) -> Tensor:
    """|x[k+1] - x[k]|^2 / 2 summed over the event, (*batch,) (Yoon et al. 2024, with unit scale)."""
    return 0.5 * (x_next - x).square().flatten(-event_dims).sum(-1)
