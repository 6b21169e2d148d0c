"""Whether a training run diverged, for any algorithm."""

from __future__ import annotations

from collections.abc import Callable

from agents.core.algorithm import SeededSample

FEW = 16
NOT_FINITE = "The sampler gives no finite samples."


def divergence(learn: Callable[[], object], sample: SeededSample) -> str:
    """Call ``learn()``; says how it diverged, "" if it did not.

    Divergence is FloatingPointError, or a ``sample`` that worked before and is not finite after: stable-baselines3
    meets NaN as an error of torch's distributions. Any other error is raised.
    """
    sample(FEW, 0)  # what fails before training is no divergence
    try:
        learn()
    except FloatingPointError as error:
        return str(error)
    except Exception as error:
        if _is_finite(sample):
            raise
        return f"{NOT_FINITE} {error}"
    return "" if _is_finite(sample) else NOT_FINITE


def _is_finite(sample: SeededSample) -> bool:
    try:
        return bool(sample(FEW, 0).isfinite().all())
    except ValueError:
        return False
