r"""The baseline V(x[k+1], k+1) of the score-function family: a policy gradient without the noise of a step's own draw.

    grad J = sum_k E[ (f(x_0) - V(x', k+1)) grad log p_theta(x' | x[k]) + grad_x V(x', k+1) . grad_theta x' ]

with x' = x[k+1] = mean_theta(x[k]) + std[k] z, and f itself for V(x[K], K). For any function phi of x[k+1], Stein's
identity says E[phi grad log p] = E[grad phi . grad x']: what the baseline takes away comes back through its slope, so
the gradient is unbiased whatever V. Left to the score function is the luck of the steps after k: in the last step
nothing, where the baseline V(x[k], k) leaves (f(x_0) - V) / std with a std of 0.01.

Letters: K steps, n trajectories; the rest as in `agents.algorithms.policy_gradient`. Sources: Liu et al., ICLR 2018,
arXiv 1710.11198 (Stein's identity); Gu et al., ICLR 2017, arXiv 1611.02247 (Q-Prop).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from agents.core.ipm_agent import IPMAgent
from agents.core.shapes import check_shapes
from diffusion_env.samplers.law import GaussianStep, sum_event


def later_advantages(advantage: Tensor, gae_lambda: float, exact_end: bool) -> Tensor:
    """What is left of `advantages` (K, n) beside the baseline V(x[k+1], k+1), (K, n): the terms j > k of each sum.

    ``exact_end``: whether f(x_0) itself is the baseline of the last step, for which nothing is left then.
    """
    check_shapes(advantage=(advantage, "K n"))
    last = torch.zeros_like(advantage[:1]) if exact_end else advantage[-1:]
    return torch.cat([gae_lambda * advantage[1:], last])


@torch.no_grad()  # no slopes of slopes are wanted, for which torch computes in another order
def slopes(agent: IPMAgent, x_next: Tensor) -> Tensor:
    """grad V(x[k+1], k+1) of x_next (K, n, *shape), same shape; after the last step that of the reward, or 0 where it
    has none."""
    has_slope = agent.has_slope  # looked at outside of torch.func

    def total(x: Tensor) -> Tensor:
        value = agent.value(x[:-1], agent.steps[1:]).sum()
        return value + agent.reward_of(x[-1]).sum() if has_slope else value

    pulled: Any = torch.func.vjp(total, x_next.detach())  # not autograd.grad, which vmap does not understand
    value, slopes_of = pulled
    (found,) = slopes_of(torch.ones_like(value))
    return cast(Tensor, found)


def slope_loss(law: GaussianStep, x_next: Tensor, slope: Tensor, weight: Tensor | None = None) -> Tensor:
    """- mean[slope . x'] (0-d), where x' = mean + std z has the z that led to x[k+1].

    ``law`` of the steps (K, n), ``x_next`` and ``slope`` (K, n, *shape); ``weight`` of the steps, broadcast to (K, n),
    None for 1.
    """
    check_shapes(x_next=(x_next, "..."), slope=(slope, "..."), mean=(law.mean, "..."))
    z = ((x_next - law.mean) / law.std).detach()
    along = sum_event(slope.detach() * law.at(z), law.event_dims)  # (K, n)
    return -(along if weight is None else weight * along).mean()
