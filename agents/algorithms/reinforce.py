r"""REINFORCE: the score-function gradient with the environment's return and no baseline.

    gradient = - mean over k and trajectories of (f(x_0) - mean f(data)) grad log p_theta(x[k+1] | x[k])

Source: Williams, Machine Learning 1992; on denoising, DDPO-SF of Black et al., ICLR 2024. What is subtracted, the mean
score of data, is the environment's own, the same for every trajectory, and explains none of the noise: this is the
floor that baselines are measured from.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class Reinforce(PolicyGradient):
    """Score function, no baseline; options in `PolicyGradientConfig`."""

    name = "reinforce"
