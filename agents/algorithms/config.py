"""Configurations of the algorithms: frozen dataclasses that import nothing heavy, so that ``--help`` stays quick."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from agents.core.config import AgentConfig
from diffusion_env.fields import Bounds, Count, Positive, Share, Weight

Baseline = Literal["none", "value", "stein", "group"]
Surrogate = Literal["score", "clip", "regression"]
Normalization = Literal["none", "batch", "group"]
StepWeight = Literal["uniform", "equal"]


@dataclass(frozen=True)
class PolicyGradientConfig(AgentConfig):
    """Hyper-parameters of the score-function agents; the named algorithms are presets of it."""

    minibatch_size: Count | None = None
    """Transitions per policy step, drawn without replacement from the buffer; None takes the whole buffer."""
    baseline: Baseline = "value"
    """Subtracted from f(x_0): value, V(x[k], k); stein, V(x[k+1], k+1), whose slope is added back through the step, see
    `agents.algorithms.stein`; group, the mean over trajectories that share x[0]; or none, which leaves the
    environment's return f(x_0) - mean f(data)."""
    gae_lambda: Share = 0.9
    """With the baselines value and stein: 1 is f(x_0) - V, as published; below 1: less variance, more of V's bias."""
    group_size: Annotated[int, Bounds(2)] | None = None
    """Trajectories that share x[0], a divisor of num_envs; with None each draws its own x[0]."""
    surrogate: Surrogate = "score"
    """score: A log p. clip: PPO's clipped ratio. regression: log p weighted by exp(A / temperature)."""
    clip_range: Positive = 0.2
    """With surrogate clip: the ratio's gain ends outside 1 - clip_range ... 1 + clip_range."""
    temperature: Positive = 1.0
    """With surrogate regression: of the weights, in units of the advantage."""
    advantage_normalization: Normalization = "none"
    """Advantages less their mean, over their std: of the whole batch, or of the group that shares x[0]."""
    advantage_std_floor: Positive = 0.05
    """Least std that advantages are divided by, in units of f: smaller advantages are mostly noise."""
    step_weight: StepWeight = "uniform"
    """Weights of the K steps in the loss: uniform, or such that each step's score has one scale (std / eps_coef)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.group_size is None and "group" in (self.baseline, self.advantage_normalization):
            raise ValueError(
                f"baseline={self.baseline!r} and advantage_normalization={self.advantage_normalization!r} need groups "
                "of trajectories that share x[0], but group_size is None. Give group_size, for example 8."
            )
        others = (self.surrogate, self.advantage_normalization, self.minibatch_size)
        if self.baseline == "stein" and others != ("score", "none", None):
            raise ValueError(
                "baseline='stein' adds the slope of V to the score-function loss of the whole buffer: it needs "
                "surrogate='score', advantage_normalization='none' and minibatch_size=None; received "
                f"surrogate={self.surrogate!r}, advantage_normalization={self.advantage_normalization!r} and "
                f"minibatch_size={self.minibatch_size!r}. Change these, or take baseline='value'."
            )


@dataclass(frozen=True)
class DxDPConfig(AgentConfig):
    """Hyper-parameters of the one-step value gradient (Yoon et al. 2024)."""

    entropy_coef: Weight = 0.0
    """tau_1, weight of each step's entropy, in nats; it matters with std learned only."""
    velocity_coef: Weight = 0.0
    """tau_2, weight of each step's |x[k+1] - x[k]|^2 / 2."""


@dataclass(frozen=True)
class PathwiseConfig(AgentConfig):
    """Hyper-parameters of back-propagation through the chain."""

    backprop_steps: Count | None = None
    """Last steps that the gradient runs through; None takes all K."""
    gradient_checkpointing: bool = False
    """Whether each step is computed again on the way back instead of being kept: memory of one step, not of K."""
