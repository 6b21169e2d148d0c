"""Step counts: one int while all particles agree, an array where they do not, and the same answers in both cases."""

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from diffusion_env.step_counts import StepCounts, host_to_device

NUM_STEPS = 3
FIRST, SECOND, BOTH = np.array([True, False]), np.array([False, True]), np.array([True, True])


def counts(*k: int) -> StepCounts:
    made = StepCounts(len(k), NUM_STEPS)
    made.k = np.array(k)
    return made


def test_nothing_is_started_at_first() -> None:
    made = StepCounts(2, NUM_STEPS)
    assert made.k.tolist() == [3, 3] and made.done.all()
    with pytest.raises(ResetNeeded, match="2 of 2 samples are finished or were never started"):
        made.check_running()


def test_particles_come_apart_and_agree_again() -> None:
    made = counts(0, 0)
    made.advance(FIRST)
    assert made.common is None and made.k.tolist() == [1, 0]
    made.advance(SECOND)
    assert made.common == 1 and made.k.tolist() == [1, 1]
    made.advance()
    made.restart(FIRST)
    assert made.common is None and made.k.tolist() == [0, 2]
    made.advance()
    assert made.k.tolist() == [1, 3] and made.done.tolist() == [False, True]
    made.restart(BOTH)
    assert made.common == 0
    made.advance(BOTH)
    made.restart()
    assert made.common == 0


@pytest.mark.parametrize("k", [(0, 0), (2, 2), (3, 3), (0, 3), (3, 1), (1, 2)])
@pytest.mark.parametrize("active", [None, FIRST, SECOND, BOTH])
def test_the_int_and_the_array_follow_one_law(k: tuple[int, ...], active: NDArray[np.bool_] | None) -> None:
    made, asked = counts(*k), np.ones(2, bool) if active is None else active
    expected = np.array([done == NUM_STEPS for done in k]) & asked
    found = made.done_among(active)
    assert (found is None) == (not expected.any())
    if found is None:
        made.check_running(active)
        made.advance(active)
        assert made.k.tolist() == (np.array(k) + asked).tolist()
    else:
        assert found.tolist() == expected.tolist()
        with pytest.raises(ResetNeeded, match=f"{expected.sum()} of 2"):
            made.check_running(active)


def test_the_index_is_an_int_only_while_all_agree() -> None:
    assert counts(2, 2).index() == 2
    index = counts(2, 1).index()
    assert isinstance(index, torch.Tensor) and index.dtype == torch.int64 and index.tolist() == [2, 1]


@pytest.mark.parametrize("k", [(1, 1), (1, 0)])
def test_arrays_are_copied_on_the_way_in_and_out(k: tuple[int, ...]) -> None:
    given = np.array(k)
    made = StepCounts(2, NUM_STEPS)
    made.k = given
    given[:] = 2
    for array in (made.k, made.done):
        array[:] = 2
    assert made.k.tolist() == list(k) and not made.done.any()


def test_a_wrong_number_of_particles_is_a_fault() -> None:
    with pytest.raises(AssertionError):
        counts(1, 1).k = np.array([1, 1, 1])


@pytest.mark.parametrize("array", [np.array([True, False]), np.arange(6).reshape(2, 3)])
def test_host_to_device_keeps_shape_and_type(array: NDArray[np.generic]) -> None:
    moved = host_to_device(array, torch.device("cpu"))
    np.testing.assert_array_equal(moved.numpy(), array)
    assert moved.numpy().dtype == array.dtype
