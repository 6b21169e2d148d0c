"""What tuning may change of stable-baselines3's algorithms: keywords of their classes, and those of `make_sb3`.

Their critic keeps its step size.
"""

from __future__ import annotations

from agents.algorithms.spaces import SHARED
from agents.core.spaces import Choice, Range, Space

STEP_SIZE: Space = {"learning_rate": Range(5e-5, 3e-3)}
GAE: Space = {"gae_lambda": Choice((0.8, 0.9, 0.95, 1.0))}
EPISODES: Space = {"episodes": Choice((1, 2, 5, 8))}
"""Of a rollout; the critic takes a step per episode, so this is also the agents' n_critic."""
STD: Space = {"learn_std": Choice((False, True)), "min_std": SHARED["min_std"]}
"""Of the denoising actor, which on-policy presets in "step" mode have."""
ON_POLICY: Space = STEP_SIZE | GAE | EPISODES

PPO: Space = ON_POLICY | STD | {"n_epochs": Range(1, 8), "clip_range": Choice((0.1, 0.2, 0.3))}
A2C: Space = ON_POLICY | STD | {"max_grad_norm": Choice((0.1, 0.5, 2.0))}
TRPO: Space = ON_POLICY | {"target_kl": Range(1e-6, 1e-2), "n_critic_updates": Choice((2, 4, 10))}
SAC: Space = {
    **STEP_SIZE,
    "train_freq": Choice((1, 5, 10)),
    "gradient_steps": Range(1, 8),
    "batch_size": Choice((256, 1024, 2048)),
    "tau": Range(0.005, 0.5),
    "ent_coef": Choice(("auto_0.01", "auto_0.1", "auto_1.0")),
}
TD3: Space = {
    **STEP_SIZE,
    "gradient_steps": Range(2, 16),
    "batch_size": Choice((256, 1024)),
    "policy_delay": Range(25, 400),
    "target_policy_noise": Choice((0.05, 0.1, 0.2)),
}
