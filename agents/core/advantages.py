r"""Advantages: how much better than expected each step of each trajectory turned out, as pure functions of tensors.

Letters: K steps, n trajectories, G trajectories in a group that shares x[0] (neighbours in the batch); f(x_0) the
critic's score (n,), V(x[k], k) the value (K, n), A the advantage (K, n). Nothing here carries a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agents.core.ranks import ALONE, Ranks
from agents.core.shapes import check_shapes
from diffusion_env.samplers.tables import StepTable


def advantages(value: Tensor, score: Tensor, gae_lambda: float = 1.0) -> Tensor:
    """Advantages (K, n) of every step, from ``value`` V(x[k], k) (K, n) and ``score`` f(x_0) (n,).

    lambda = 1 is the paper's f(x_0) - V(x[k], k), unbiased whatever V. Below 1 it is generalised advantage estimation
    (Schulman et al. 2016, eq. 16; undiscounted, terminal reward): sum_j lambda^j (V(x[k+j+1]) - V(x[k+j])) with
    V(x[K]) = f(x_0), which has less variance the better V predicts the score.
    """
    check_shapes(value=(value, "K n"), score=(score, "n"))
    deltas = torch.cat([value[1:], score.expand_as(value[:1])]) - value
    advantage = torch.empty_like(deltas)
    running = torch.zeros_like(score)
    for k in range(len(deltas) - 1, -1, -1):
        running = deltas[k] + gae_lambda * running
        advantage[k] = running
    return advantage


def group_advantages(score: Tensor, group_size: int) -> Tensor:
    """f(x_0) less the mean of its group, (n,) from ``score`` (n,): trajectories are compared where they share x[0].

    The mean holds the trajectory itself, which shrinks the gradient's expectation by (G - 1) / G and no more
    (group-relative advantage of GRPO: Shao et al. 2024, arXiv 2402.03300, without its division). ValueError unless G
    divides n.
    """
    check_shapes(score=(score, "n"))
    if len(score) % group_size:
        raise ValueError(f"Groups of {group_size} trajectories do not fill a batch of {len(score)} scores.")
    groups = score.view(-1, group_size)
    return (groups - groups.mean(1, keepdim=True)).flatten()


def normalised(advantage: Tensor, std_floor: float, group_size: int | None = None, ranks: Ranks = ALONE) -> Tensor:
    """(A - mean A) / max(std A, ``std_floor``), shape (K, n) kept: over all steps, trajectories and ranks, or per step
    over each group of ``group_size`` neighbours, which one rank holds.

    Without the least std, advantages that are only noise, once all scores agree, would be scaled up to std 1.
    """
    check_shapes(advantage=(advantage, "K n"))
    if group_size is None:
        return (advantage - ranks.mean(advantage.mean())) / ranks.std(advantage).clamp(min=std_floor)
    groups = advantage.unflatten(-1, (-1, group_size))
    spread = groups.std(-1, correction=0, keepdim=True).clamp(min=std_floor)
    return ((groups - groups.mean(-1, keepdim=True)) / spread).flatten(-2)


def regression_weights(advantage: Tensor, temperature: float, ranks: Ranks = ALONE) -> Tensor:
    """exp(A / temperature) scaled to mean 1 over the batch of all ranks, shape (K, n) kept.

    Weights of a reward-weighted regression. Source: Peters & Schaal 2007; as a softmax over the batch, Black et al.
    2024.
    """
    check_shapes(advantage=(advantage, "K n"))
    exponent = (advantage / temperature).flatten()
    weight = exponent.softmax(0).view_as(advantage) * advantage.numel()
    return weight * ranks.share(exponent.logsumexp(0))


def equal_step_weights(table: StepTable) -> Tensor:
    """Weights (K,) of mean 1 that give each step's score one scale in eps: proportional to std[k] / |eps_coef[k]|.

    The gradient of log p(x[k+1] | x[k]) in the network's output is eps_coef / std times a standard normal, so a last
    step with little noise outweighs all others unless its weight is lowered.
    """
    weight = table.std / table.eps_coef.abs()
    return weight / weight.mean()


def effective_sample_size(weight: Tensor) -> Tensor:
    """(sum w)^2 / (n sum w^2) (0-d) of n weights of any shape: from 1/n, one sample has all the weight, to 1 (Kish
    1965)."""
    return weight.sum().square() / (weight.numel() * weight.square().sum())
