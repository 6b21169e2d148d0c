"""Noise schedules against diffusers' and against the numbers their papers state."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_env.samplers.schedules import (
    SCHEDULES,
    NoiseSchedule,
    cosine,
    from_alpha_bar,
    from_betas,
    from_columns,
    karras,
    linear,
    make_schedule,
    published_toy,
    rectified_flow,
)


@pytest.fixture(scope="module")
def reference_betas():
    """diffusers' beta_1 ... beta_T, by the name it gives the schedule."""
    from diffusers import DDPMScheduler

    def betas(name, num_levels):
        scheduler: Any = DDPMScheduler(num_train_timesteps=num_levels, beta_schedule=name)
        return scheduler.betas.double().numpy()

    return betas


def betas_of(schedule):
    return 1 - schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]


@pytest.mark.parametrize("num_levels", [1, 10, 1000])
@pytest.mark.parametrize(
    ("ours", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2"), ("sigmoid", "sigmoid")]
)
def test_betas_are_those_of_diffusers(reference_betas, ours, theirs, num_levels):
    expected = reference_betas(theirs, num_levels)
    np.testing.assert_allclose(betas_of(make_schedule(ours, num_levels)), expected, rtol=2e-5)


def test_negative_control_betas_of_another_schedule_differ(reference_betas):
    expected = reference_betas("linear", 1000)
    assert np.abs(betas_of(make_schedule("sigmoid", 1000)) / expected - 1).max() > 0.1


def test_stated_noise_at_the_last_level():
    assert linear().alpha_bar[-1] == pytest.approx(4.0e-5, rel=0.01)
    assert published_toy(10).alpha_bar[-1] == pytest.approx(0.951, abs=5e-4)
    assert published_toy(100).alpha_bar[-1] == pytest.approx(0.605, abs=5e-4)
    assert published_toy(10).name == "published_toy"


def test_cosine_is_the_closed_form_where_its_betas_are_not_capped():
    f = np.cos((np.arange(1000) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    np.testing.assert_allclose(cosine().alpha_bar[:1000], f / f[0], rtol=1e-9)
    assert betas_of(cosine())[-1] == pytest.approx(0.999)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@pytest.mark.parametrize("num_levels", [1, 2, 10, 1000])
def test_every_schedule_falls_from_one(name, num_levels):
    schedule = make_schedule(name, num_levels)
    assert schedule.num_levels == num_levels == len(schedule.alpha_bar) - 1
    assert schedule.alpha_bar.dtype == np.float64
    assert schedule.alpha_bar[0] == 1 and schedule.alpha_bar[-1] > 0
    assert (np.diff(schedule.alpha_bar) < 0).all()


@given(st.lists(st.floats(1e-6, 0.999), min_size=1, max_size=30))
def test_from_betas_is_the_product_of_what_is_kept(betas):
    schedule = from_betas("mine", np.array(betas))
    np.testing.assert_allclose(betas_of(schedule), betas, rtol=1e-9)


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.0], [0.1, -0.1], [0.1, math.nan], [1.5], [], [[0.1], [0.2]]])
def test_betas_outside_zero_and_one_are_refused(betas):
    with pytest.raises(ValueError, match=r"'mine' must be a 1-D array that starts at 1 .* beta"):
        from_alpha_bar("mine", np.concatenate([np.ones_like(np.array(betas)[:1]), np.cumprod(1 - np.array(betas), 0)]))


@given(st.integers(1, 1000))
def test_log_snr_and_level_of_are_inverses(level):
    schedule = linear()
    a = schedule.alpha_bar[level]
    assert schedule.log_snr[level - 1] == pytest.approx(math.log(a / (1 - a)))
    assert schedule.level_of(np.array([a]))[0] == pytest.approx(level, abs=1e-9)


@given(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=2, max_size=10))
def test_time_alignment_is_monotone_and_stays_within_the_levels(alpha_bar):
    level = cosine().level_of(np.sort(alpha_bar))
    assert (np.diff(level) <= 0).all()
    assert level.min() >= 1 and level.max() <= 1000


@given(st.floats(1e-8, 1.0))
def test_last_level_with_is_the_noisiest_that_keeps_so_much(alpha_bar):
    schedule = cosine()
    level = schedule.last_level_with(alpha_bar)
    assert level == 1 or schedule.alpha_bar[level] >= alpha_bar
    assert level == 1000 or schedule.alpha_bar[level + 1] < alpha_bar


def test_up_to_keeps_the_numbers_of_the_levels():
    part = linear().up_to(300)
    assert part.num_levels == 300 and part.name == "linear"
    np.testing.assert_array_equal(part.alpha_bar, linear().alpha_bar[:301])
    assert part.level_of(linear().alpha_bar[[900]])[0] == 300  # held at the end


def test_unknown_schedules_and_no_levels_are_refused():
    with pytest.raises(ValueError, match=r"'edm'.*'cosine', 'karras', 'linear', .*'rectified_flow', 'sigmoid'"):
        make_schedule("edm")
    with pytest.raises(ValueError, match=r"at least 1 level; received num_levels = 0"):
        make_schedule("linear", 0)


@pytest.mark.parametrize("num_levels", [1, 2, 10, 1000])
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_the_columns_agree(name, num_levels):
    schedule = make_schedule(name, num_levels)
    assert schedule.alpha.shape == schedule.sigma.shape == (num_levels + 1,)
    assert schedule.alpha[0] == 1 and schedule.sigma[0] == 0 and (np.diff(schedule.sigma) > 0).all()
    square = schedule.alpha**2 + schedule.sigma**2
    np.testing.assert_allclose(schedule.scale**2, square)
    np.testing.assert_allclose(schedule.alpha**2 / square, schedule.alpha_bar)
    snr = 2 * (np.log(schedule.alpha[1:]) - np.log(schedule.sigma[1:]))
    np.testing.assert_allclose(schedule.log_snr, snr, rtol=1e-6, atol=1e-6)
    assert schedule.variance_preserving == (name not in ("karras", "rectified_flow"))


def test_karras_is_that_of_diffusers():
    from diffusers import EDMEulerScheduler

    scheduler: Any = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    for num_levels in (1, 10, 1000):
        scheduler.set_timesteps(num_levels)
        ours = karras(num_levels)
        np.testing.assert_allclose(ours.sigma[::-1], scheduler.sigmas, rtol=1e-5)
        assert (ours.alpha == 1).all()
    assert np.abs(karras(10, rho=5.0).sigma[5] / karras(10).sigma[5] - 1) > 0.1  # negative control


def test_rectified_flow_is_that_of_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler: Any = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    ours = rectified_flow(1000)
    np.testing.assert_allclose(ours.sigma[:0:-1], scheduler.sigmas, rtol=2e-4)
    np.testing.assert_allclose(scheduler.timesteps, np.arange(1000, 0, -1), rtol=1e-6)  # its timestep is our level
    np.testing.assert_array_equal(ours.alpha, 1 - ours.sigma)
    assert ours.alpha[-1] == pytest.approx(1e-4)


def test_columns_of_a_path_of_your_own():
    angle = np.linspace(0, 1.5, 11)  # a trigonometric path
    schedule = from_columns("mine", np.cos(angle), np.sin(angle))
    assert schedule.variance_preserving
    np.testing.assert_allclose(schedule.alpha_bar, np.cos(angle) ** 2)
    part = schedule.up_to(4)
    assert part.num_levels == 4 and part.sigma[-1] == schedule.sigma[4]


@pytest.mark.parametrize(
    ("alpha", "sigma", "message"),
    [
        ([1.0, 0.5], [0.0, 0.5, 1.0], r"'mine' must have one length T \+ 1 >= 2 .* lengths 2, 3"),
        ([1.0], [0.0], r"one length T \+ 1 >= 2"),
        ([0.9, 0.5], [0.0, 0.5], r"start at 1 and 0 \(the data\)"),
        ([1.0, 0.5], [0.1, 0.5], r"start at 1 and 0 \(the data\)"),
        ([1.0, 0.0], [0.0, 1.0], r"alpha / sigma must fall and stay above 0"),
        ([1.0, 0.5, 0.5], [0.0, 0.5, 0.4], r"alpha / sigma must fall"),
    ],
)
def test_columns_that_are_no_path_are_refused(alpha, sigma, message):
    with pytest.raises(ValueError, match=message):
        from_columns("mine", np.array(alpha), np.array(sigma))


def test_columns_that_disagree_are_refused():
    a = cosine(10)
    for alpha, sigma in ((a.alpha[:-1], a.sigma), (a.alpha, a.sigma * 1.01)):
        with pytest.raises(ValueError, match=r"must be of one shape, with alpha_bar = .*Use from_alpha_bar or"):
            NoiseSchedule("mine", alpha, sigma, a.alpha_bar)
