"""Samplers by name: which table each stands for, and where it starts. Each works on any path or says why not."""

from __future__ import annotations

from collections.abc import Callable

from diffusion_env.fields import Count, checked
from diffusion_env.samplers.schedules import NoiseSchedule
from diffusion_env.samplers.tables import (
    StepTable,
    ddim,
    ddpm,
    fastdpm_step,
    fastdpm_var,
    levels,
    published_toy_ddpm,
)

FINAL_STD = 0.01
"""Least std of the last step in the named samplers, in network units (about 1 % of the data's spread)."""

START = 1e-3
"""The named samplers start at the noisiest level with alpha_bar >= START. There the laws of x_T and N(0, I) differ
by terms of order START (an axis along which the data's variance is not 1) and START^1.5 (their skewness), while the
coefficients of step 0 stay below 1 / sqrt(START) = 32. From the last level of the cosine schedule (alpha_bar 2e-9) they
would reach 20,000, from that of rectified flow (1e-8) 10,000."""


def started(schedule: NoiseSchedule, num_steps: int) -> NoiseSchedule:
    """The schedule up to where alpha_bar is `START`, or as far beyond as ``num_steps`` distinct levels reach."""
    return schedule.up_to(max(schedule.last_level_with(START), min(num_steps, schedule.num_levels)))


# The spacings, at K = 10. On the swiss roll with the cosine schedule, DDPM leaves 6.6 % of its samples off the support
# if uniform, 1.4 % if quadratic (SW2 3.7e-2, 4.6e-2), and fine-tuning removes those slowest; DDIM is better if uniform.
# On the other paths uniform is better for both: with the exact denoiser of eight Gaussians, DDPM's SW2 is 9e-2 and not
# 12e-2 on "karras", 5.1e-2 and not 5.5e-2 on "rectified_flow".
SAMPLERS: dict[str, Callable[[NoiseSchedule, int], StepTable]] = {
    "ddpm": lambda s, k: ddpm(
        s, levels(k, s.num_levels, "quadratic" if s.variance_preserving else "uniform"), final_std=FINAL_STD
    ),
    "ddim": lambda s, k: ddim(s, levels(k, s.num_levels), eta=0.0),
    "fastdpm": lambda s, k: fastdpm_var(s, k, final_std=FINAL_STD),
    "fastdpm_step": lambda s, k: fastdpm_step(s, k, final_std=FINAL_STD),
    "published_toy": lambda s, k: published_toy_ddpm(k, s),
}


def make_table(sampler: str | StepTable, schedule: NoiseSchedule, num_steps: int) -> StepTable:
    """The table called ``sampler`` with K = ``num_steps`` steps; a `StepTable` passes through if its K agrees."""
    if not isinstance(sampler, str | StepTable):
        raise TypeError(
            f"A sampler is the name of a step table or a StepTable; received {type(sampler).__name__}. Choose one of "
            f"{sorted(SAMPLERS)}, or make a StepTable of its columns."
        )
    num_steps = checked(num_steps, Count, "num_steps")
    if isinstance(sampler, StepTable):
        if sampler.num_steps != num_steps:
            raise ValueError(
                f"The step table has {sampler.num_steps} steps but num_steps = {num_steps}; give both the same."
            )
        return sampler
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}. Choose one of {sorted(SAMPLERS)}, or give a StepTable.")
    return SAMPLERS[sampler](started(schedule, num_steps), num_steps)
