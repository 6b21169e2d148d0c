r"""Losses of the agents: pure functions of tensors that return ``(loss, metrics)``.

Letters: A = f(x_0) - V(x[k], k) the advantage of a step; log p = log p_theta(x[k+1] | x[k]), summed over the event.
Metrics are 0-d tensors on the loss's device, so that nothing waits for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

Metrics = dict[str, Tensor]


def score_function_loss(log_prob: Tensor, advantage: Tensor) -> tuple[Tensor, Metrics]:
    """- mean[A log p], whose gradient is the policy gradient (Fan & Lee 2023, theorem 4.1 and algorithm 1, line 12).

    ``log_prob`` and ``advantage`` have one shape; no gradient flows into the advantage.
    """
    loss = -(advantage.detach() * log_prob).mean()
    return loss, {"policy_gradient_loss": loss.detach(), "advantage_std": advantage.detach().std(correction=0)}


@torch.no_grad()
def ratio_error(log_prob: Tensor, old_log_prob: Tensor) -> Tensor:
    """Largest |p_now / p_then - 1| of the steps: 0 up to rounding as long as the policy is the one that acted."""
    return (log_prob - old_log_prob).expm1().abs().max()


def advantages(value: Tensor, score: Tensor, gae_lambda: float = 1.0) -> Tensor:
    """Advantages (K, n) of every step, from ``value`` V(x[k], k) (K, n) and ``score`` f(x_0) (n,).

    lambda = 1 is the paper's f(x_0) - V(x[k], k), unbiased whatever V. Below 1 it is generalised advantage estimation
    (Schulman et al. 2016, eq. 16; undiscounted, terminal reward): sum_j lambda^j (V(x[k+j+1]) - V(x[k+j])) with
    V(x[K]) = f(x_0), which leaves out the noise of the later steps as far as V is right.
    """
    deltas = torch.cat([value[1:], score.expand_as(value[:1])]) - value
    advantage = torch.empty_like(deltas)
    running = torch.zeros_like(score)
    for k in range(len(deltas) - 1, -1, -1):
        running = deltas[k] + gae_lambda * running
        advantage[k] = running
    return advantage


def value_loss(value: Tensor, score: Tensor) -> tuple[Tensor, Metrics]:
    """Mean squared error of V(x[k], k) to f(x_0); no gradient flows into the score."""
    loss = (value - score.detach()).square().mean()
    return loss, {"value_loss": loss.detach(), "explained_variance": explained_variance(value.detach(), score.detach())}


def explained_variance(value: Tensor, score: Tensor) -> Tensor:
    """1 - Var[f(x_0) - V] / Var[f(x_0)]: 1 is perfect, 0 no better than a constant."""
    left, whole = (score - value).var(correction=0), score.var(correction=0)
    return 1 - left / whole.clamp(min=torch.finfo(score.dtype).tiny)
