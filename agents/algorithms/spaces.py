"""What tuning may change of the agents: a space per family of configurations, small enough for 20 to 30 trials.

A space always holds the values it starts from, so tuning can end at the preset.
"""

from __future__ import annotations

from dataclasses import asdict

from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
from agents.core.config import AgentConfig
from agents.core.spaces import Choice, Range, Space, around

SHARED: Space = {
    "learning_rate": Range(5e-5, 1e-2),
    "critic_learning_rate": Range(3e-4, 1e-2),
    "n_critic": Range(1, 8),
    "std": Choice(("fixed", "learned")),
    "std_lr_scale": Choice((10.0, 100.0)),
    "min_std": Choice((0.0, 0.05, 0.1, 0.3)),
}
"""Of every agent; a class of a user has these."""

DECAY: Space = {"ema_decay": Choice((0.9, 0.97, 0.99))}
WIDTH: Space = {"ema_width": Choice((0.05, 0.1, 0.2))}
VALUE_BASELINE: Space = {"gae_lambda": Choice((0.8, 0.9, 0.95, 1.0))}
CLIPPED: Space = {"clip_range": Choice((0.1, 0.2, 0.3)), "n_generator": Range(1, 8)}
REGRESSION: Space = {"temperature": Range(0.1, 10.0)}
KL: Space = {"kl_coef": Range(1e-4, 0.1)}
BACKPROP_STEPS, GROUP_SIZES = (1, 2, 5), (4, 8, 16)
DXDP: Space = {
    "value_learning_rate": Range(3e-4, 1e-2),
    "entropy_coef": Choice((0.0, 1e-3, 1e-2, 0.1)),
    "velocity_coef": Choice((0.0, 1e-3, 1e-2, 0.1)),
}


def agent_space(config: AgentConfig, num_steps: int, num_envs: int) -> Space:
    """The space around ``config``, for samplers of ``num_steps`` steps trained in ``num_envs`` environments."""
    families: list[Space] = [SHARED, WIDTH if config.ema_width else DECAY, KL if config.kl_coef > 0 else {}]
    if isinstance(config, PolicyGradientConfig):
        families += _score_function(config, num_envs)
    elif isinstance(config, DxDPConfig):
        families.append(DXDP)
    elif isinstance(config, PathwiseConfig):
        families.append({"backprop_steps": Choice((None, *(k for k in BACKPROP_STEPS if k < num_steps)))})
    return around(families, asdict(config))


def _score_function(config: PolicyGradientConfig, num_envs: int) -> list[Space]:
    """What belongs to the preset's kind of baseline and of loss; a group size must divide the batch."""
    sizes = tuple(size for size in GROUP_SIZES if num_envs % size == 0)
    return [
        VALUE_BASELINE if config.baseline in ("value", "stein") else {},
        CLIPPED if config.surrogate == "clip" else {},
        REGRESSION if config.surrogate == "regression" else {},
        {"group_size": Choice(sizes)} if config.baseline == "group" else {},
    ]
