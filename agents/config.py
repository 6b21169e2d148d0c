"""Configurations of the agents: frozen dataclasses that import nothing heavy, so that ``--help`` stays quick."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

Schedule = Literal["constant", "linear"]


@dataclass(frozen=True)
class SFTPGConfig:
    """Hyper-parameters of SFT-PG (Fan & Lee 2023, algorithm 1)."""

    n_critic: int = 5
    """Rollouts per iteration, each followed by one step on the critic and one on the value function."""
    n_generator: int = 1
    """Policy steps per iteration."""
    minibatch_size: int | None = None
    """Transitions per policy step, drawn without replacement from the buffer; None takes the whole buffer."""
    gae_lambda: float = 0.9
    """Advantages: 1 is f(x_0) - V(x[k], k), as published; below 1 the noise of later steps is traded for V's bias."""
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
    value_loss_weight: float = 1.0
    """Weight of the value error in the critic's loss, for the critic "baseline" alone."""
    value_width: int = 128
    """Units in each hidden layer of the value function."""
    value_depth: int = 2
    """Hidden layers of the value function."""

    def __post_init__(self) -> None:
        counts = ["n_critic", "n_generator", "value_width", "value_depth"]
        counts += ["minibatch_size"] * (self.minibatch_size is not None)
        rates = ("learning_rate", "critic_learning_rate", "value_learning_rate", "value_loss_weight")
        _refuse(self, counts, lambda v: isinstance(v, int) and v >= 1, "an integer >= 1")
        _refuse(self, rates, lambda v: 0 <= v < float("inf"), "a finite number >= 0")
        _refuse(self, ("max_grad_norm",), lambda v: v is None or v > 0, "None or a number > 0")
        _refuse(self, ("gae_lambda",), lambda v: 0 <= v <= 1, "a number in [0, 1]")
        _refuse(self, ("ema_decay", "adam_beta1", "adam_beta2"), lambda v: 0 <= v < 1, "a number in [0, 1)")
        _refuse(self, ("lr_schedule",), lambda v: v in ("constant", "linear"), "'constant' or 'linear'")


def _refuse(config: Any, names: Iterable[str], allowed: Any, words: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not allowed(value):
            raise ValueError(f"{type(config).__name__}.{name} must be {words}; received {value!r}.")


PAPER_TOY = SFTPGConfig(
    n_critic=5,
    n_generator=1,
    minibatch_size=128,
    gae_lambda=1.0,
    learning_rate=5e-5,
    critic_learning_rate=1e-3,
    value_learning_rate=1e-3,
    adam_beta1=0.9,
    adam_beta2=0.999,
    lr_schedule="constant",
    max_grad_norm=None,
    ema_decay=0.0,
    value_loss_weight=1.0,
    value_width=256,
)
"""The swiss-roll setting of the paper's code: 4,800 policy steps of 128 transitions, Adam 5e-5, nothing averaged."""

PRESETS: dict[str, SFTPGConfig] = {"default": SFTPGConfig(), "paper": PAPER_TOY}


def describe(config: Any) -> str:
    """The configuration, a line per field."""
    return "\n".join(f"{f.name:>22} = {getattr(config, f.name)!r}" for f in fields(config))
