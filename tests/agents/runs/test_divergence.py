"""What counts as a run that diverged, and what stays an error."""

import pytest
import torch
from torch import Tensor

from agents.runs.divergence import NOT_FINITE, divergence


class Sampler:
    value = 0.0

    def __call__(self, n: int, seed: int) -> Tensor:
        if self.value == float("inf"):
            raise ValueError("Expected parameter loc to be finite")  # torch's distributions
        return torch.full((n, 2), self.value)


def ending(sampler: Sampler, value: float, error: Exception | None = None) -> str:
    def learn() -> None:
        sampler.value = value
        if error is not None:
            raise error

    return divergence(learn, sampler)


def test_a_finite_sampler_did_not_diverge() -> None:
    assert ending(Sampler(), 1.0) == ""


def test_divergence_says_how() -> None:
    assert ending(Sampler(), 1.0, FloatingPointError("policy_loss became nan")) == "policy_loss became nan"
    assert ending(Sampler(), float("nan")) == NOT_FINITE
    assert ending(Sampler(), float("inf"), ValueError("loc")) == f"{NOT_FINITE} loc"


def test_an_error_of_a_sampler_that_is_finite_is_no_divergence() -> None:
    with pytest.raises(RuntimeError, match="disk"):
        ending(Sampler(), 1.0, RuntimeError("disk"))


def test_a_sampler_that_never_worked_is_no_divergence() -> None:
    sampler = Sampler()
    sampler.value = float("inf")
    with pytest.raises(ValueError, match="finite"):
        ending(sampler, 1.0)
