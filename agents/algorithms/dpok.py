r"""DPOK: policy gradient that pays for leaving the pretrained sampler.

    loss = - mean[ A log p_theta(x[k+1] | x[k]) ] + kl_coef * mean KL( p_theta(. | x[k]) || p_pretrained(. | x[k]) )

with A = f(x_0) - V(x[k], k) as a lambda-average. Source: Fan et al., NeurIPS 2023, arXiv 2305.16381. The KL of two
Gaussian steps is known in closed form and is differentiated, not sampled. Its optimum is not the data: what the
pretrained few-step sampler gets wrong is part of what the penalty holds on to.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class DPOK(PolicyGradient):
    """Value baseline and KL to the pretrained sampler; options in `PolicyGradientConfig`."""

    name = "dpok"
