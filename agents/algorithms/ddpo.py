r"""DDPO: several steps on each batch, held near the policy that made it by PPO's clipped probability ratio.

    loss = - mean[ min(r A, clip(r, 1 - c, 1 + c) A) ],    r = p_theta(x[k+1] | x[k]) / p_then(x[k+1] | x[k])

with A = (f(x_0) - mean) / std over the batch. Source: DDPO-IS of Black et al., ICLR 2024, arXiv 2305.13301; the clip
is Schulman et al. 2017. The ratio is of log-probabilities summed over the event, so clip_range has one meaning whatever
the data's dimension; the authors' 1e-4 belongs to averaged ones and to images. There are no prompts here, so the whole
batch is normalised together.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class DDPO(PolicyGradient):
    """Clipped ratio, advantages normalised over the batch; options in `PolicyGradientConfig`."""

    name = "ddpo"
