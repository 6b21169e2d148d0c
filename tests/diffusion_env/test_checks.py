"""Checks of what a user gives: each refusal names what was received, and nothing sound is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env.checks import START, ActionCheck, check_finite_start, check_tensor, checked_options, tensor_of

CPU = torch.device("cpu")
HUGE = torch.full((2, 2), 3e38)  # finite, though their sum is not
BAD = [torch.tensor([0.0, value]) for value in (torch.nan, torch.inf, -torch.inf)]


class TestActionCheck:
    @pytest.mark.parametrize("bad", BAD)
    def test_at_once(self, bad: torch.Tensor) -> None:
        check = ActionCheck(deferred=False)
        check.look(torch.zeros(3))
        with pytest.raises(ValueError, match="NaN or infinity"):
            check.look(bad)
        check.settle()  # nothing is left to report

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_deferred_to_the_end_of_the_episode(self, bad: torch.Tensor, position: int) -> None:
        check, actions = ActionCheck(deferred=True), [torch.zeros(2)] * 3
        actions[position] = bad
        for action in actions:
            check.look(action)
        with pytest.raises(ValueError, match="NaN or infinity"):
            check.settle()
        check.settle()  # reported once

    @pytest.mark.parametrize("deferred", [False, True])
    def test_finite_actions_may_have_an_infinite_sum(self, deferred: bool) -> None:
        assert not HUGE.sum().isfinite()
        check = ActionCheck(deferred)
        check.look(HUGE)
        check.settle()


class TestTensorOf:
    def test_copies(self) -> None:
        array = np.zeros(2, np.float32)
        made = tensor_of("The action", array, (2,), CPU)
        array[:] = 1
        assert made.tolist() == [0.0, 0.0] and made.dtype == torch.float32

    @pytest.mark.parametrize(
        ("array", "error", "message"),
        [
            ([0.0, 0.0], TypeError, "The action must be a float32 numpy array.*received list"),
            (np.zeros(2), TypeError, "dtype float64"),
            (np.zeros(3, np.float32), ValueError, r"shape \(2,\); received \(3,\)"),
        ],
    )
    def test_refuses(self, array: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            tensor_of("The action", array, (2,), CPU)


def test_options() -> None:
    assert checked_options(None, ["x"]) == {}
    assert checked_options({"x": 1}, ["x", "reset_mask"]) == {"x": 1}
    with pytest.raises(ValueError, match=r"\['start'\], but it knows \['x'\] only"):
        checked_options({"start": 1, "x": 2}, ["x"])


@pytest.mark.parametrize("bad", BAD)
def test_starts_are_finite(bad: torch.Tensor) -> None:
    check_finite_start(HUGE)
    with pytest.raises(ValueError, match="held NaN or infinity") as caught:
        check_finite_start(bad)
    assert START in str(caught.value)


def test_tensors_have_shape_and_type() -> None:
    check_tensor("The action", torch.zeros(4, 2), (4, 2))
    with pytest.raises(ValueError, match=r"The action must have shape \(4, 2\).*received \(4, 3\)"):
        check_tensor("The action", torch.zeros(4, 3), (4, 2))
    with pytest.raises(TypeError, match=r"float32; received torch\.float64"):
        check_tensor("The action", torch.zeros(4, 2, dtype=torch.float64), (4, 2))
