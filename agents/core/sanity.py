"""Checks that a run makes on itself each time it logs: a table of limits on metrics, and what a breach means.

tensorboard shows ``sanity/NAME``, 1 where the limit is broken and 0 where it is kept; the first breach is a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Limit(NamedTuple):
    """What one metric must stay within."""

    metric: str
    lowest: float
    highest: float
    meaning: str
    after: int = 0
    """Iterations that are given to learn it."""


_INF = float("inf")

LIMITS: dict[str, Limit] = {
    "ratio": Limit(
        "train/ratio_error",
        0.0,
        0.01,
        "before the first policy step the probability ratio of the policy to itself was not 1. Something changed the "
        "policy between rollout and update, or its network is not deterministic (dropout, batch norm): a biased "
        "gradient",
    ),
    "gradient": Limit(
        "train/weights_without_gradient",
        0.0,
        0.0,
        "some weights of the sampler received no gradient: they are cut off from the loss and will never learn",
    ),
    "step_size": Limit(
        "train/approx_kl",
        -_INF,
        0.5,
        "the last policy step left the policy of the rollout far behind: lower learning_rate or n_generator",
    ),
    "sample_size": Limit(
        "train/effective_sample_size",
        0.05,
        _INF,
        "a few samples carry the whole gradient: lower learning_rate or n_generator, or raise temperature",
    ),
    "value": Limit(
        "train/explained_variance",
        -0.5,
        _INF,
        "the value function is worse than a constant and adds noise: raise value_learning_rate, or use another "
        "baseline",
        after=50,
    ),
    "critic": Limit(
        "critic/overfit_z",
        -_INF,
        5.0,
        "the critic scores its training data above data it never saw: it memorises. Use more data or a smaller critic",
    ),
}


def with_warning(samples: Tensor) -> Tensor:
    """``samples`` (n, *shape) as they are; RuntimeWarning where some of them are not finite."""
    bad = int((~samples.flatten(1).isfinite().all(1)).sum())
    if bad:
        warnings.warn(
            f"{bad} of {len(samples)} samples are NaN or infinite: the sampler has diverged. Take an earlier "
            "checkpoint, or train with smaller step sizes.",
            RuntimeWarning,
            stacklevel=3,
        )
    return samples


class SanityChecks:
    """Looks at each line of metrics; remembers what is broken, to warn once and not at every line."""

    def __init__(self, limits: Mapping[str, Limit] = LIMITS) -> None:
        self.limits, self.broken = limits, set[str]()

    def __call__(self, metrics: Mapping[str, float], iteration: int) -> dict[str, float]:
        """sanity/NAME of every limit whose metric is there: 1.0 where it is broken, else 0.0."""
        found = {
            name: not limit.lowest <= float(metrics[limit.metric]) <= limit.highest
            for name, limit in self.limits.items()
            if limit.metric in metrics and iteration >= limit.after
        }
        for name in (name for name, broken in found.items() if broken and name not in self.broken):
            self._warn(self.limits[name], float(metrics[self.limits[name].metric]), iteration)
        self.broken = {name for name, broken in found.items() if broken}
        return {f"sanity/{name}": float(broken) for name, broken in found.items()}

    @staticmethod
    def _warn(limit: Limit, value: float, iteration: int) -> None:
        warnings.warn(
            f"{limit.metric} is {value:.3g} in iteration {iteration} (allowed: {limit.lowest:g} to {limit.highest:g}): "
            f"{limit.meaning}.",
            stacklevel=6,
        )
