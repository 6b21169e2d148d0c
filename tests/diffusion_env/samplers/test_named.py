"""Samplers by name: any K on every kind of path, where they start, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from diffusion_env.samplers.named import SAMPLERS, START, make_table, started
from diffusion_env.samplers.schedules import NoiseSchedule, make_schedule
from diffusion_env.samplers.tables import StepTable, ddim
from tests.support import noise_levels

LINEAR, COSINE = make_schedule("linear"), make_schedule("cosine")
STEPS = [1, 2, 5, 10, 100, 1000]
EVERY_PATH = ("ddpm", "ddim", "fastdpm_step")


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
@pytest.mark.parametrize("schedule", [LINEAR, COSINE], ids=["linear", "cosine"])
def test_named_samplers_at_any_number_of_steps(sampler: str, schedule: NoiseSchedule, num_steps: int) -> None:
    table = make_table(sampler, schedule, num_steps)
    assert table.num_steps == num_steps
    assert table.name == {"fastdpm": "fastdpm_var"}.get(sampler, sampler)
    noise = noise_levels(table)
    assert noise[-1] == pytest.approx(1, rel=2e-5)
    # The network is asked where its own noise is that of the row (a thousand factors in float32 know it to 0.2 levels).
    np.testing.assert_allclose(schedule.level_of(noise[:-1]), table.time, atol=0.2)
    assert (table.time.diff() < 0).all() or (sampler == "published_toy" and (table.time.diff() <= 0).all())
    if sampler != "published_toy" and num_steps <= 100:
        assert START <= table.start < 1.1 * START
    if sampler != "ddim":
        assert all(table.noisy_rows)  # a policy needs a density in every row


def test_named_samplers_reach_beyond_the_start_only_for_want_of_levels() -> None:
    assert started(COSINE, 10).num_levels == COSINE.last_level_with(START)
    assert started(COSINE, 995).num_levels == 995
    assert started(COSINE, 5000).num_levels == 1000


def test_a_step_table_passes_through() -> None:
    table = ddim(LINEAR, [500, 20])
    assert make_table(table, COSINE, 2) is table
    with pytest.raises(ValueError, match=r"2 rows but num_steps = 3"):
        make_table(table, COSINE, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_table("euler", LINEAR, 10), r"Unknown sampler 'euler'.*'ddim', 'ddpm', 'fastdpm'"),
        (lambda: make_table("ddpm", LINEAR, 0), r"integer >= 1; received 0"),
        (lambda: make_table("ddpm", LINEAR, True), r"integer >= 1; received True"),
        (lambda: make_table("ddpm", LINEAR, 2.5), r"integer >= 1; received 2.5"),  # type: ignore[arg-type]
        (lambda: make_table("ddpm", LINEAR, 1001), r"between 1 and the 1000 levels .*; received 1001"),
    ],
)
def test_what_names_no_table_is_refused(call: Callable[[], StepTable], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("sampler", EVERY_PATH)
@pytest.mark.parametrize("path", ["karras", "rectified_flow"])
def test_any_number_of_steps_on_other_paths(path: str, sampler: str, num_steps: int) -> None:
    schedule = make_schedule(path)
    table = make_table(sampler, schedule, num_steps)
    noise = noise_levels(table)
    assert table.num_steps == num_steps and noise[-1] == pytest.approx(1, rel=1e-4)
    np.testing.assert_allclose(schedule.alpha_bar[table.time.int()], noise[:-1], rtol=1e-3)
    assert all(table.noisy_rows) or sampler == "ddim"
    if num_steps <= 100:
        assert START <= table.start < 1.1 * START


@pytest.mark.parametrize("path", ["karras", "rectified_flow"])
def test_every_sampler_works_on_other_paths_or_says_why_not(path: str) -> None:
    for sampler in set(SAMPLERS) - set(EVERY_PATH):
        with pytest.raises(ValueError, match=rf"The sampler '{sampler}' is defined by the betas .* Use 'ddpm'"):
            make_table(sampler, make_schedule(path), 10)
