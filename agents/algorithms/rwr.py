r"""RWR: reward-weighted regression, which imitates its own samples as much as the critic likes them.

    loss = - mean[ w log p_theta(x[k+1] | x[k]) ],    w = exp(A / temperature) / mean exp(A / temperature)

Source: Peters & Schaal, ICML 2007; on denoising, the RWR baseline of Black et al., ICLR 2024. The weights are never
negative: a bad sample is followed less and never pushed away, so progress is slow where good samples are rare.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class RWR(PolicyGradient):
    """Exponential weights on normalised returns; options in `PolicyGradientConfig`."""

    name = "rwr"
