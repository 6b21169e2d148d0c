r"""GRPO: trajectories that share their start x[0] are compared with each other; no value function.

    A = (f(x_0) - mean of the group) / max(std of the group, floor),    loss = DDPO's clipped ratio + kl_coef * mean KL

Source: Flow-GRPO, Liu et al. 2025, arXiv 2505.05470, after Shao et al. 2024. A group shares x[0] because nothing else
is given to a sampler without prompts: what remains is the noise of the steps, which is all that the policy can be
credited for. The floor keeps groups that agree from being blown up.
"""

from __future__ import annotations

from agents.algorithms.policy_gradient import PolicyGradient


class GRPO(PolicyGradient):
    """Group baseline, clipped ratio, KL penalty; ``num_envs`` must be a multiple of ``group_size``."""

    name = "grpo"
