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
    return loss, {"policy_gradient_loss": loss.detach(), "advantage_std": advantage.detach().std()}


def value_loss(value: Tensor, score: Tensor) -> tuple[Tensor, Metrics]:
    """Mean squared error of V(x[k], k) to f(x_0); no gradient flows into the score."""
    loss = (value - score.detach()).square().mean()
    return loss, {"value_loss": loss.detach(), "explained_variance": explained_variance(value.detach(), score.detach())}


def explained_variance(value: Tensor, score: Tensor) -> Tensor:
    """1 - Var[f(x_0) - V] / Var[f(x_0)]: 1 is perfect, 0 no better than a constant."""
    return 1 - (score - value).var() / score.expand_as(value).var().clamp(min=torch.finfo(score.dtype).tiny)
