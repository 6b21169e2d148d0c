"""What `agents.tuning.study` may change of each algorithm: a table per family, small enough for 20 to 30 trials.

K is the number of denoising steps. A space always holds the row it starts from (`agents.algorithms.presets`, or
`agents.sb3.registry`), so tuning can end there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from agents.algorithms.config import DxDPConfig, PathwiseConfig, PolicyGradientConfig
from agents.algorithms.presets import PRESETS


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both of them in it; even in the logarithm. Integers if both are."""

    low: float
    high: float

    def including(self, value: Any) -> Range:
        """Widened to hold ``value``."""
        return Range(min(self.low, value), max(self.high, value))

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose."""
        return self.low < self.high

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """One of ``values``."""

    values: tuple[Any, ...]

    def including(self, value: Any) -> Choice:
        """With ``value`` among them."""
        return self if value in self.values else Choice((value, *self.values))

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.values) > 1


Parameter = Range | Choice
Space = dict[str, Parameter]

SHARED: Space = {
    "learning_rate": Range(5e-5, 3e-3),
    "critic_learning_rate": Range(3e-4, 1e-2),
    "n_critic": Range(1, 8),
    "ema_decay": Choice((0.9, 0.97, 0.99)),
    "std": Choice(("fixed", "learned")),
    "std_lr_scale": Choice((10.0, 100.0)),
    "min_std": Choice((0.0, 0.05, 0.1, 0.3)),
}
"""Of every agent of `agents.algorithms.presets`."""

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


def agent_space(name: str, num_steps: int, num_envs: int) -> Space:
    """The space around the row ``name`` of `agents.algorithms.presets`, for samplers of ``num_steps`` steps."""
    config = PRESETS[name].config
    families: list[Space] = [SHARED, KL if config.kl_coef > 0 else {}]
    if isinstance(config, PolicyGradientConfig):
        families += _score_function(config, num_envs)
    elif isinstance(config, DxDPConfig):
        families.append(DXDP)
    elif isinstance(config, PathwiseConfig):
        families.append({"backprop_steps": Choice((None, *(k for k in BACKPROP_STEPS if k < num_steps)))})
    return _around(families, asdict(config))


def _score_function(config: PolicyGradientConfig, num_envs: int) -> list[Space]:
    """What belongs to the row's own baseline and surrogate; groups divide the batch."""
    sizes = tuple(size for size in GROUP_SIZES if num_envs % size == 0)
    return [
        VALUE_BASELINE if config.baseline == "value" else {},
        CLIPPED if config.surrogate == "clip" else {},
        REGRESSION if config.surrogate == "regression" else {},
        {"group_size": Choice(sizes)} if config.baseline == "group" else {},
    ]


def _around(families: list[Space], start: Mapping[str, Any]) -> Space:
    merged = {name: parameter.including(start[name]) for space in families for name, parameter in space.items()}
    return {name: parameter for name, parameter in merged.items() if parameter.is_free}


STEP_SIZE: Space = {"learning_rate": Range(5e-5, 3e-3)}
GAE: Space = {"gae_lambda": Choice((0.8, 0.9, 0.95, 1.0))}
EPISODES: Space = {"episodes": Choice((1, 2, 5, 8))}
"""Of a rollout; the critic takes a step per episode, so this is also the agents' n_critic."""
STD: Space = {"learn_std": Choice((False, True)), "min_std": SHARED["min_std"]}
"""Of the denoising actor, which rows in "step" mode have."""
ON_POLICY: Space = STEP_SIZE | GAE | EPISODES

SB3_SPACES: dict[str, Space] = {
    "ppo": ON_POLICY | STD | {"n_epochs": Range(1, 8), "clip_range": Choice((0.1, 0.2, 0.3))},
    "a2c": ON_POLICY | STD | {"max_grad_norm": Choice((0.1, 0.5, 2.0))},
    "trpo": ON_POLICY | {"target_kl": Range(1e-6, 1e-2), "n_critic_updates": Choice((2, 4, 10))},
    "sac": {
        **STEP_SIZE,
        "train_freq": Choice((1, 5, 10)),
        "gradient_steps": Range(1, 8),
        "batch_size": Choice((256, 1024, 2048)),
        "tau": Range(0.005, 0.5),
        "ent_coef": Choice(("auto_0.01", "auto_0.1", "auto_1.0")),
    },
    "td3": {
        **STEP_SIZE,
        "gradient_steps": Range(2, 16),
        "batch_size": Choice((256, 1024)),
        "policy_delay": Range(25, 400),
        "target_policy_noise": Choice((0.05, 0.1, 0.2)),
    },
}
"""Of stable-baselines3's algorithms: keywords that `make_sb3` takes. Their critic keeps its step size."""


def sb3_space(name: str, start: Mapping[str, Any]) -> Space:
    """The space around ``start``, the keywords that the row ``name`` of `agents.sb3.registry` stands for."""
    return _around([SB3_SPACES[name]], start)
