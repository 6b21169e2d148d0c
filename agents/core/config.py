"""The configuration that every agent has, and the checks of its values; nothing heavy is imported, so that ``--help``
stays quick.

Options that the papers combine freely are fields of their own. The named algorithms are in
`agents.algorithms.presets`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

Schedule = Literal["constant", "linear"]
Std = Literal["fixed", "learned"]


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
    """Adam's decay of the mean gradient, for sampler and value function; with 0.9 sampler and critic oscillate."""
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
    """Weight of the value error in the critic's loss, for critics that want it as their penalty ("baseline")."""
    value_width: int = 128
    """Units in each hidden layer of the value function."""
    value_depth: int = 2
    """Hidden layers of the value function."""

    def __post_init__(self) -> None:
        counts = ("n_critic", "n_generator", "value_width", "value_depth")
        rates = ("learning_rate", "critic_learning_rate", "value_learning_rate")
        weights = (*rates, "value_loss_weight", "kl_coef", "std_lr_scale", "min_std")
        refuse(self, counts, is_count, "an integer >= 1")
        refuse(self, weights, is_weight, "a finite number >= 0")
        refuse(self, ("max_grad_norm",), lambda v: v is None or v > 0, "None or a number > 0")
        refuse(self, ("ema_decay", "adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "a number in [0, 1)")
        refuse_other(self, lr_schedule=Schedule, std=Std)


def checked_config(config: Any, wanted: type[AgentConfig], agent: str) -> Any:
    """``config`` if it is None or a ``wanted``, no subclass; TypeError otherwise, in words for the class ``agent``."""
    if config is None or type(config) is wanted:
        return config
    hint = f"write {wanted.__name__}(**config)" if isinstance(config, dict) else f"make a {wanted.__name__}"
    raise TypeError(
        f"{agent} takes a {wanted.__name__}; received a {type(config).__name__}. Its fields would be read as another "
        f"algorithm's: {hint}, or leave config out for {agent}.default_config()."
    )


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


def is_count(value: Any) -> bool:
    """Whether ``value`` is an integer >= 1."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_weight(value: Any) -> bool:
    """Whether ``value`` is a finite number >= 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def describe(config: Any) -> str:
    """The configuration, a line per field."""
    return "\n".join(f"{f.name:>24} = {getattr(config, f.name)!r}" for f in fields(config))
