"""Who has done how many steps: one number while all agree, an array where they do not, one law for both."""

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded

from diffusion_env.critics import make_critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.process import DenoisingProcess
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule

FIRST, SECOND = np.array([True, False]), np.array([False, True])


@pytest.fixture
def process(ring: Dataset) -> DenoisingProcess:
    table = make_table("ddpm", make_schedule("cosine"), 2)
    process = DenoisingProcess(ring, table, make_critic("energy", ring.shape), 2)
    process.seed(0)
    process.reset()
    return process


def test_particles_fall_out_of_step_and_back(process: DenoisingProcess) -> None:
    action = torch.zeros(2, 2)
    assert process.steps_done == 0
    assert process.step(action, active=FIRST).finished is None
    assert not isinstance(process.steps_done, int) and process.k.tolist() == [1, 0]
    process.step(action, active=SECOND)
    assert process.steps_done == 1 and process.k.tolist() == [1, 1]
    process.reset(FIRST)
    assert process.k.tolist() == [0, 1] and not process.done.any()
    finished = process.step(action).finished
    assert finished is not None and finished.tolist() == process.done.tolist() == [False, True]
    process.step(action, active=FIRST)
    assert process.steps_done == 2 and process.done.all()
    process.reset(np.ones(2, bool))
    assert process.steps_done == 0


@pytest.mark.parametrize("apart", [False, True])
def test_a_finished_particle_needs_a_reset(process: DenoisingProcess, apart: bool) -> None:
    process.k = np.array([2, 1 if apart else 2])
    with pytest.raises(ResetNeeded, match="1 of 2" if apart else "2 of 2"):
        process.step(torch.zeros(2, 2))
    if apart:
        process.step(torch.zeros(2, 2), active=SECOND)  # the finished one is not asked


@pytest.mark.parametrize("apart", [False, True])
def test_arrays_handed_out_are_fresh(process: DenoisingProcess, apart: bool) -> None:
    given = np.array([1, 0 if apart else 1])
    process.k = given
    given[:] = 2
    for array in (process.k, process.done):
        array[:] = 2
    assert process.k.tolist() == [1, 0 if apart else 1] and not process.done.any()


def test_finite_actions_may_overflow_their_sum(process: DenoisingProcess) -> None:
    huge = torch.full((2, 2), 3e38)
    assert not huge.sum().isfinite()
    process.step(huge)
    assert process.steps_done == 1
