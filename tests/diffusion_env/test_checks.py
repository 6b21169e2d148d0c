"""Checks of what a user gives: each refusal names what was received, and nothing sound is refused."""

from typing import Any

import numpy as np
import pytest
import torch

from diffusion_env.checks import (
    START,
    NonFiniteActionError,
    StateCheck,
    check_finite_start,
    check_tensor,
    checked_options,
    checked_seed,
    tensor_of,
)

CPU = torch.device("cpu")
HUGE = torch.full((2, 2), 3e38)  # finite, though their sum is not
BAD = [torch.tensor([0.0, value]) for value in (torch.nan, torch.inf, -torch.inf)]


def cause() -> Exception:
    return NonFiniteActionError("the cause")


class TestStateCheck:
    @pytest.mark.parametrize("bad", BAD)
    def test_at_once(self, bad: torch.Tensor) -> None:
        check = StateCheck(deferred=False)
        check.look(torch.zeros(3), cause)
        with pytest.raises(NonFiniteActionError, match="the cause"):
            check.look(bad, cause)
        check.settle(cause)  # nothing is left to report

    @pytest.mark.parametrize("bad", BAD)
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_deferred_to_the_end_of_the_episode(self, bad: torch.Tensor, position: int) -> None:
        check, states = StateCheck(deferred=True), [torch.zeros(2)] * 3
        states[position] = bad
        for state in states:
            check.look(state, cause)
        with pytest.raises(NonFiniteActionError, match="the cause"):
            check.settle(cause)
        check.settle(cause)  # reported once

    @pytest.mark.parametrize("deferred", [False, True])
    def test_finite_states_may_have_an_infinite_sum(self, deferred: bool) -> None:
        assert not HUGE.sum().isfinite()
        check = StateCheck(deferred)
        check.look(HUGE, cause)
        check.settle(cause)


class TestTensorOf:
    def test_copies(self) -> None:
        array = np.zeros(2, np.float32)
        made = tensor_of("The action", array, (2,), CPU)
        array[:] = 1
        assert made.tolist() == [0.0, 0.0] and made.dtype == torch.float32

    @pytest.mark.parametrize(
        "array",
        [
            [0.1, 1.0],
            (np.float64(0.1), 1),
            *(np.array([0.1, 1.0], kind) for kind in (np.float16, np.float64, np.longdouble)),
            np.array([0, 1]),
            np.array([False, True]),
        ],
    )
    def test_numbers_of_any_type_are_what_numpy_makes_of_them(self, array: Any) -> None:
        made = tensor_of("The action", array, (2,), CPU)
        assert made.dtype == torch.float32
        np.testing.assert_array_equal(made.numpy(), np.asarray(array, np.float32))

    @pytest.mark.parametrize(
        ("array", "error", "message"),
        [
            (torch.zeros(2), TypeError, r"received a Tensor. Convert it with .numpy\(force=True\)"),
            (np.zeros(2, complex), TypeError, "dtype complex128"),
            (np.array(["0", "1"]), TypeError, "real numbers of shape"),
            ("ab", TypeError, "received str"),
            (None, TypeError, "received NoneType"),
            ({"x": 1}, TypeError, "received dict"),
            ([[0.0], [0.0, 1.0]], ValueError, r"must be numbers of shape \(2,\); received list"),
            ([0.0], ValueError, r"shape \(2,\); received \(1,\)"),
            (np.zeros(3, np.float32), ValueError, r"shape \(2,\); received \(3,\)"),
        ],
    )
    def test_refuses(self, array: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            tensor_of("The action", array, (2,), CPU)


@pytest.mark.parametrize("seed", [3, np.int64(3), np.uint8(3)])
def test_seeds(seed: Any) -> None:
    assert checked_seed(None) is None
    assert checked_seed(seed) == 3 and type(checked_seed(seed)) is int


@pytest.mark.parametrize("seed", [-1, 3.0, True, "3", [1, 2]])
def test_no_seeds(seed: Any) -> None:
    with pytest.raises(TypeError, match="seed must be a non-negative int or None"):
        checked_seed(seed)


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
