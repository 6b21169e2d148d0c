"""Step tables on every kind of path: the formulas in alpha and sigma of the path itself, and what a path refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diffusion_env.samplers.schedules import Float64, NoiseSchedule, make_schedule
from diffusion_env.samplers.tables import StepTable, ddim, ddpm, fastdpm_step, fastdpm_var, published_toy_ddpm

PATHS = {name: make_schedule(name) for name in ("linear", "karras", "rectified_flow")}
falling_levels = st.sets(st.integers(1, 999), min_size=1, max_size=20).map(lambda chosen: sorted(chosen, reverse=True))


def columns_on_the_path(schedule: NoiseSchedule, chosen: list[int], eta: float) -> list[Float64]:
    """x_coef, eps_coef and std (K,) of x_s from x_t of the path itself, float64.

    Song et al. 2021, eq. 12 and 16, in alpha and sigma: x_s = alpha_s x_0 + sqrt(sigma_s^2 - std^2) eps + std z with
    x_0 = (x_t - sigma_t eps) / alpha_t.
    """
    visited = [*chosen, 0]
    (alpha_t, sigma_t), (alpha_s, sigma_s) = (
        (schedule.alpha[rows], schedule.sigma[rows]) for rows in (visited[:-1], visited[1:])
    )
    std = eta * sigma_s / sigma_t * np.sqrt(np.maximum(sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2, 0))
    x_coef = alpha_s / alpha_t
    return [x_coef, np.sqrt(np.maximum(sigma_s**2 - std**2, 0)) - x_coef * sigma_t, std]


def columns_of(table: StepTable, schedule: NoiseSchedule, chosen: list[int]) -> list[Float64]:
    """The table's columns (K,), taken from its coordinates x_t / scale_t to those of the path."""
    scale_t, scale_s = schedule.scale[chosen], schedule.scale[[*chosen[1:], 0]]
    x_coef, eps_coef, std = (c.double().numpy() for c in (table.x_coef, table.eps_coef, table.std))
    return [x_coef * scale_s / scale_t, eps_coef * scale_s, std * scale_s]


def close(table: StepTable, schedule: NoiseSchedule, chosen: list[int], eta: float) -> bool:
    ours, expected = columns_of(table, schedule, chosen), columns_on_the_path(schedule, chosen, eta)
    return all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(ours, expected, strict=True))


@pytest.mark.parametrize("name", PATHS)
@given(falling_levels, st.floats(0, 1))
def test_tables_are_the_formulas_in_alpha_and_sigma(name: str, chosen: list[int], eta: float) -> None:
    schedule = PATHS[name]
    assert close(ddim(schedule, chosen, eta), schedule, chosen, eta)
    assert close(ddpm(schedule, chosen), schedule, chosen, 1.0)


@pytest.mark.parametrize("name", PATHS)
def test_negative_control_the_formulas_tell_tables_apart(name: str) -> None:
    schedule, chosen = PATHS[name], [900, 500, 100]
    assert not close(ddim(schedule, chosen, 0.9), schedule, chosen, 1.0)
    assert not close(ddim(schedule, [900, 501, 100], 1.0), schedule, chosen, 1.0)
    assert not close(ddim(PATHS["linear"].up_to(999), [900, 499, 100], 1.0), schedule, chosen, 1.0)


@pytest.mark.parametrize("name", ["karras", "rectified_flow"])
def test_samplers_of_betas_refuse_other_paths(name: str) -> None:
    schedule = PATHS[name]
    with pytest.raises(ValueError, match=rf"'fastdpm' is defined by the betas .* and '{name}' is none\. Use 'ddpm'"):
        fastdpm_var(schedule, 10)
    with pytest.raises(ValueError, match=rf"'published_toy' is defined by the betas .* and '{name}' is none"):
        published_toy_ddpm(10, schedule)
    assert fastdpm_step(schedule, 10).num_steps == 10
