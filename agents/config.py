"""Configurations of the agents: frozen dataclasses that import nothing heavy, so that ``--help`` stays quick.

An option that is orthogonal in the papers is orthogonal here. The named algorithms are rows of `agents.presets`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Schedule = Literal["constant", "linear"]
Std = Literal["fixed", "learned"]
Baseline = Literal["none", "value", "group"]
Surrogate = Literal["score", "clip", "regression"]
Normalization = Literal["none", "batch", "group"]
StepWeight = Literal["uniform", "equal"]


@dataclass(frozen=True)
class AgentConfig:
    """What every agent of algorithm 1's shape has: rollouts that teach critic and value, then steps on the sampler."""

    n_critic: int = 5
    """Rollouts per iteration, each followed by one step on the critic and one on the value function."""
    n_generator: int = 1
    """Policy steps per iteration."""
    learning_rate: float = 6e-4
    """Adam's step size for the sampler's network."""
    critic_learning_rate: float = 2e-3
    """Adam's step size for the critic."""
    value_learning_rate: float = 1e-3
    """Adam's step size for the value function."""
    adam_beta1: float = 0.5
    """Adam's decay of the mean gradient, for sampler and value function; 0.9 let them circle with the critic."""
    adam_beta2: float = 0.99
    """Adam's decay of the mean squared gradient, for sampler and value function."""
    lr_schedule: Schedule = "linear"
    """How the three step sizes change over the run: constant, or linearly to zero."""
    max_grad_norm: float | None = 0.5
    """The policy gradient is scaled down to this Euclidean norm; None leaves it as it is."""
    ema_decay: float = 0.99
    """Decay per policy step of the averaged sampler used by predict, sample and evaluate; 0 keeps the newest."""
    kl_coef: float = 0.0
    """Weight of the KL divergence of each step from the pretrained sampler's, in nats (closed form)."""
    std: Std = "fixed"
    """Standard deviations of the steps: fixed as in the step table, or learned, one factor per step."""
    std_lr_scale: float = 100.0
    """Step size of a learned std, as a multiple of learning_rate."""
    min_std: float = 0.0
    """The step table's standard deviations are raised to at least this, in network units; 0 leaves them."""
    value_loss_weight: float = 1.0
    """Weight of the value error in the critic's loss, for the critic "baseline" alone."""
    value_width: int = 128
    """Units in each hidden layer of the value function."""
    value_depth: int = 2
    """Hidden layers of the value function."""

    def __post_init__(self) -> None:
        counts = ("n_critic", "n_generator", "value_width", "value_depth")
        rates = ("learning_rate", "critic_learning_rate", "value_learning_rate")
        weights = (*rates, "value_loss_weight", "kl_coef", "std_lr_scale", "min_std")
        refuse(self, counts, _is_count, "an integer >= 1")
        refuse(self, weights, _is_weight, "a finite number >= 0")
        refuse(self, ("max_grad_norm",), lambda v: v is None or v > 0, "None or a number > 0")
        refuse(self, ("ema_decay", "adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "a number in [0, 1)")
        refuse_other(self, lr_schedule=Schedule, std=Std)


@dataclass(frozen=True)
class PolicyGradientConfig(AgentConfig):
    """Hyper-parameters of the score-function agents; the defaults are our SFT-PG (Fan & Lee 2023, algorithm 1)."""

    minibatch_size: int | None = None
    """Transitions per policy step, drawn without replacement from the buffer; None takes the whole buffer."""
    baseline: Baseline = "value"
    """Subtracted from f(x_0): value V(x[k], k); group, the mean over trajectories that share x[0]; or none, which
    leaves the environment's return f(x_0) - mean f(data)."""
    gae_lambda: float = 0.9
    """With the value baseline: 1 is f(x_0) - V(x[k], k), as published; below 1 noise is traded for V's bias."""
    group_size: int | None = None
    """Trajectories that share x[0], a divisor of num_envs; None lets all start on their own."""
    surrogate: Surrogate = "score"
    """score: A log p. clip: PPO's clipped ratio. regression: log p weighted by exp(A / temperature)."""
    clip_range: float = 0.2
    """With surrogate clip: the ratio's gain ends outside 1 - clip_range ... 1 + clip_range."""
    temperature: float = 1.0
    """With surrogate regression: of the weights, in units of the advantage."""
    advantage_normalization: Normalization = "none"
    """Advantages less their mean, over their std: of the whole batch, or of the group that shares x[0]."""
    advantage_std_floor: float = 0.05
    """Least std that advantages are divided by, in units of f: what is already noise is not blown up."""
    step_weight: StepWeight = "uniform"
    """Weights of the K steps in the loss: uniform, or such that each step's score has one scale (std / eps_coef)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self, ("minibatch_size",), lambda v: v is None or _is_count(v), "None or an integer >= 1")
        refuse(self, ("group_size",), lambda v: v is None or (_is_count(v) and v >= 2), "None or an integer >= 2")
        refuse(self, ("gae_lambda",), lambda v: 0 <= v <= 1, "a number in [0, 1]")
        positive = ("clip_range", "temperature", "advantage_std_floor")
        refuse(self, positive, lambda v: _is_weight(v) and v > 0, "a finite number > 0")
        refuse_other(
            self,
            baseline=Baseline,
            surrogate=Surrogate,
            advantage_normalization=Normalization,
            step_weight=StepWeight,
        )
        if self.group_size is None and "group" in (self.baseline, self.advantage_normalization):
            raise ValueError(
                f"baseline={self.baseline!r} and advantage_normalization={self.advantage_normalization!r} need groups "
                "of trajectories that share x[0], but group_size is None. Give group_size, for example 8."
            )


@dataclass(frozen=True)
class DxDPConfig(AgentConfig):
    """Hyper-parameters of the one-step value gradient (Yoon et al. 2024)."""

    entropy_coef: float = 0.0
    """tau_1, weight of each step's entropy, in nats; it matters with std learned only."""
    velocity_coef: float = 0.0
    """tau_2, weight of each step's |x[k+1] - x[k]|^2 / 2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self, ("entropy_coef", "velocity_coef"), _is_weight, "a finite number >= 0")


@dataclass(frozen=True)
class PathwiseConfig(AgentConfig):
    """Hyper-parameters of back-propagation through the chain."""

    backprop_steps: int | None = None
    """Last steps that the gradient runs through; None takes all K."""
    gradient_checkpointing: bool = False
    """Whether each step is computed again on the way back instead of being kept: memory of one step, not of K."""

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse(self, ("backprop_steps",), lambda v: v is None or _is_count(v), "None or an integer >= 1")


def refuse(config: Any, names: Iterable[str], allowed: Any, words: str) -> None:
    """ValueError that names the first of the fields ``names`` whose value is not ``allowed``."""
    for name in names:
        value = getattr(config, name)
        if not allowed(value):
            raise ValueError(f"{type(config).__name__}.{name} must be {words}; received {value!r}.")


def refuse_other(config: Any, **choices: Any) -> None:
    """ValueError unless each field holds one of the values of its Literal."""
    for name, literal in choices.items():
        values = get_args(literal)
        refuse(config, (name,), values.__contains__, f"one of {list(values)}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def describe(config: Any) -> str:
    """The configuration, a line per field."""
    return "\n".join(f"{f.name:>24} = {getattr(config, f.name)!r}" for f in fields(config))
