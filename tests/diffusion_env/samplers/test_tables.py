"""Step tables: algebra that holds on any levels, and what is refused."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import from_betas, make_schedule, published_toy
from diffusion_env.samplers.tables import (
    POWERS,
    StepTable,
    ddim,
    ddpm,
    fastdpm_step,
    fastdpm_var,
    levels,
    published_toy_ddpm,
)
from tests.support import noise_levels

LINEAR, COSINE = make_schedule("linear"), make_schedule("cosine")
STEPS = [1, 2, 5, 10, 100, 1000]


falling_levels = st.sets(st.integers(1, 1000), min_size=1, max_size=20).map(lambda chosen: sorted(chosen, reverse=True))


def marginal_std(table, chosen, data_std):
    """The standard deviation of x[1] ... x[K] under the exact denoiser of N(0, data_std^2), each from the true x[k]."""
    a = LINEAR.alpha_bar[chosen]
    variance = a * data_std**2 + 1 - a
    gain = table.x_coef.double().numpy() + table.eps_coef.double().numpy() * np.sqrt(1 - a) / variance
    return np.sqrt(gain**2 * variance + table.std.double().numpy() ** 2)


@given(falling_levels)
def test_the_large_variance_is_exact_for_standard_normal_data(chosen):
    # Ho et al. 2020, section 3.2: sigma^2 = beta is optimal for x_0 ~ N(0, I).
    np.testing.assert_allclose(marginal_std(ddpm(LINEAR, chosen, "large"), chosen, 1.0), 1.0, rtol=1e-5)


def test_negative_control_the_small_variance_is_not():
    chosen = levels(10, 1000)
    assert marginal_std(ddpm(LINEAR, chosen), chosen, 1.0).min() < 0.91


@given(falling_levels, st.floats(0, 1))
def test_the_small_variance_and_ddim_are_exact_for_data_at_a_point(chosen, eta):
    # There too for beta_tilde; eta moves variance between mean and noise but leaves every marginal as it is.
    for table in (ddpm(LINEAR, chosen), ddim(LINEAR, chosen, eta)):
        expected = np.sqrt(1 - LINEAR.alpha_bar[[*chosen[1:], 0]])
        np.testing.assert_allclose(marginal_std(table, chosen, 0.0), expected, rtol=1e-4, atol=1e-4)


@given(falling_levels)
def test_every_table_runs_from_its_start_to_the_data(chosen):
    for table in (ddpm(LINEAR, chosen), ddim(LINEAR, chosen, 0.5)):
        assert table.start == LINEAR.alpha_bar[chosen[0]]
        assert table.time.tolist() == chosen
        np.testing.assert_allclose(noise_levels(table)[:-1], LINEAR.alpha_bar[chosen], rtol=1e-5)
        assert noise_levels(table)[-1] == pytest.approx(1.0, rel=1e-5)
        # The last row is the prediction of x_0, (x - sqrt(1 - a) eps) / sqrt(a).
        a = LINEAR.alpha_bar[chosen[-1]]
        assert float(table.x_coef[-1]) == pytest.approx(a**-0.5)
        assert float(table.eps_coef[-1]) == pytest.approx(-((1 / a - 1) ** 0.5))


@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(list(POWERS)))
def test_levels_are_distinct_and_fall_from_the_last(a, b, spacing):
    num_steps, num_levels = min(a, b), max(a, b)
    chosen = levels(num_steps, num_levels, spacing)
    assert len(chosen) == num_steps and chosen[0] == num_levels and chosen[-1] >= 1
    assert all(s < t for t, s in pairwise(chosen))


def test_quadratic_levels_are_denser_near_the_data():
    assert levels(5, 1000) == [1000, 800, 600, 400, 200]
    assert levels(5, 1000, "quadratic") == [1000, 640, 360, 160, 40]


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_fastdpm_variances_meet_the_schedules_noise(num_steps, spacing):
    table = fastdpm_var(LINEAR, num_steps, spacing=spacing)
    noise = noise_levels(table)
    assert table.start == pytest.approx(LINEAR.alpha_bar[-1], rel=1e-9)
    roots = np.sqrt(1 - noise[:-1] / noise[1:])[::-1] ** (1 if spacing == "quadratic" else 2)
    np.testing.assert_allclose(np.diff(roots, 2), 0, atol=1e-4 * roots[-1])  # linear or quadratic in the step
    assert table.time[0] == pytest.approx(1000) and (table.time.diff() < 0).all()


def test_fastdpm_of_all_levels_of_a_linear_schedule_is_ddpm():
    ours, expected = fastdpm_var(LINEAR, 1000, spacing="uniform"), ddpm(LINEAR, levels(1000, 1000))
    for column in ("x_coef", "eps_coef", "std", "time"):
        torch.testing.assert_close(getattr(ours, column), getattr(expected, column), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_fastdpm_on_steps_is_ddim_on_the_subset(spacing):
    for kappa in (0.0, 0.3, 1.0):
        table, expected = fastdpm_step(LINEAR, 7, kappa, spacing), ddim(LINEAR, levels(7, 1000, spacing), kappa)
        assert table.to_dict() == expected.to_dict() | {"name": "fastdpm_step"}


@pytest.mark.parametrize("sampler", [fastdpm_var, fastdpm_step])
def test_kappa_scales_the_noise(sampler):
    none, half, full = (sampler(LINEAR, 10, kappa) for kappa in (0.0, 0.5, 1.0))
    assert not any(none.noisy_rows) and all(full.noisy_rows[:-1])
    torch.testing.assert_close(half.std, 0.5 * full.std)


@pytest.mark.parametrize("make", [ddpm, ddim])
def test_final_std_moves_the_last_row_alone(make):
    chosen = levels(6, 1000)
    plain, noisy = make(LINEAR, chosen), make(LINEAR, chosen, final_std=0.5)
    assert plain.std[-1] == 0 and noisy.std[-1] == 0.5
    assert torch.equal(plain.std[:-1], noisy.std[:-1]) and torch.equal(plain.eps_coef, noisy.eps_coef)


def test_final_std_moves_the_last_row_alone_with_the_large_variance():
    chosen = [10, 5, 2]  # every sqrt(beta) is below 0.5
    plain, noisy = ddpm(LINEAR, chosen, "large"), ddpm(LINEAR, chosen, "large", final_std=0.5)
    assert plain.std.max() < 0.1
    assert torch.equal(plain.std[:-1], noisy.std[:-1]) and noisy.std[-1] == 0.5


def test_the_published_toy_table():
    table = published_toy_ddpm(10)
    betas = 1 - published_toy(10).alpha_bar[1:] / published_toy(10).alpha_bar[:-1]
    np.testing.assert_allclose(table.std, np.sqrt(betas[::-1]), rtol=1e-6)
    assert table.time.tolist() == list(range(10, 0, -1))
    assert table.start == pytest.approx(0.951, abs=5e-4)
    # A network of that very schedule is asked at the same levels, another one where it knows the same noise.
    torch.testing.assert_close(published_toy_ddpm(10, published_toy(10)).time, table.time)
    elsewhere = published_toy_ddpm(10, COSINE).time
    np.testing.assert_allclose(COSINE.alpha_bar[elsewhere[:3].round().int()], noise_levels(table)[:3], atol=1e-3)


def test_step_actions_are_scaled_by_mean_and_noise():
    row = make_table("ddpm", COSINE, 5).rows(torch.tensor([0, 3]), event_dims=2)
    assert row.std.shape == (2, 1, 1)
    torch.testing.assert_close(row.action_scale, torch.hypot(row.eps_coef, row.std))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fastdpm_var(LINEAR, 1001), r"received 1001"),
        (lambda: levels(5, 10, "cubic"), r"Unknown spacing 'cubic'. Choose one of .*'quadratic'"),
        (lambda: ddpm(LINEAR, [5, 7]), r"must fall strictly within 1000 ... 1.*received \[5, 7\]"),
        (lambda: ddpm(LINEAR, [1001, 7]), r"must fall strictly"),
        (lambda: ddpm(LINEAR, [5, 0]), r"must fall strictly"),
        (lambda: ddpm(LINEAR, []), r"at least one; received \[\]"),
        (lambda: ddpm(LINEAR, [5], "medium"), r"Unknown variance 'medium'. Choose 'small'"),
        (lambda: ddpm(LINEAR, [5], final_std=-0.1), r"final_std is a standard deviation, >= 0; received -0.1"),
        (lambda: ddim(LINEAR, [5], eta=1.5), r"eta must lie in \[0, 1\].*received 1.5"),
    ],
)
def test_what_cannot_be_a_table_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"std": torch.tensor([0.1])}, r"four columns of one equal length K >= 1"),
        (
            dict.fromkeys(["x_coef", "eps_coef", "std", "time"], torch.zeros(0)),
            r"four columns of one equal length K >= 1",
        ),
        ({"std": torch.tensor([0.1, -0.1])}, r"std column must be >= 0"),
        ({"x_coef": torch.tensor([1.0, torch.inf])}, r"must be finite"),
        ({"time": torch.tensor([2, 1])}, r"float32.*torch.int64"),
    ],
)
def test_broken_columns_are_refused(columns, message):
    with pytest.raises(ValueError, match=message):
        replace(ddim(LINEAR, [500, 20]), **columns)


def test_a_table_survives_json():
    table = make_table("fastdpm", make_schedule("linear"), 10)
    back = StepTable.from_dict(json.loads(json.dumps(table.to_dict())))
    for column in ("x_coef", "eps_coef", "std", "time"):
        assert torch.equal(getattr(back, column), getattr(table, column))
        assert getattr(back, column).dtype == torch.float32
    assert (back.name, back.start, back.noisy_rows) == (table.name, table.start, table.noisy_rows)


@pytest.mark.gpu
def test_a_table_moves_between_devices():
    table = make_table("ddpm", from_betas("mine", np.full(50, 0.2)), 3)
    moved = table.to("cuda")
    assert {c.device.type for c in (moved.x_coef, moved.eps_coef, moved.std, moved.time)} == {"cuda"}
    assert moved.to_dict() == table.to_dict()
