"""Step tables against diffusers' schedulers, one step at a time on the same x, prediction and noise."""

import numpy as np
import pytest
import torch

from diffusion_env.samplers.predictions import to_epsilon
from diffusion_env.samplers.schedules import karras, make_schedule
from diffusion_env.samplers.tables import ddim, ddpm, levels

LINEAR, COSINE = make_schedule("linear"), make_schedule("cosine")
STEPS = [1, 2, 5, 10, 100, 1000]


@pytest.fixture(scope="module")
def diffusers():
    import diffusers

    return diffusers


def diffusers_scheduler(kind, schedule, **config):
    betas = (1 - schedule.alpha_bar[1:] / schedule.alpha_bar[:-1]).tolist()
    made = kind(num_train_timesteps=len(betas), trained_betas=betas, clip_sample=False, **config)
    np.testing.assert_allclose(made.alphas_cumprod, schedule.alpha_bar[1:], rtol=1e-4)
    # It keeps alpha_bar in float32, which near the data costs four digits of 1 - alpha_bar.
    made.alphas_cumprod = torch.tensor(schedule.alpha_bar[1:])
    return made


def largest_difference(table, scheduler, **step_options):
    """How far one step on the same x, eps and noise ends apart, over all rows but the last and in the last.

    In units of x_coef: the first of few rows multiplies x, and the rounding of x, by 1 / sqrt(alpha_bar) >> 1.
    """
    inputs, ours, theirs = (torch.Generator().manual_seed(seed) for seed in (0, 1, 1))
    differences = []
    for k, timestep in enumerate(scheduler.timesteps):
        x, eps = torch.randn(2, 16, 2, generator=inputs)
        law = table.law(k, x, eps, event_dims=1)
        step = law.sample(ours) if table.noisy_rows[k] else law.mean
        expected = scheduler.step(eps, int(timestep), x, generator=theirs, **step_options).prev_sample
        differences.append(float((step - expected).abs().max() / table.x_coef[k]))
    return max(differences[:-1], default=0.0), differences[-1]


def same(differences):
    return max(differences) < 5e-6


@pytest.mark.parametrize("num_steps", [*STEPS, 7])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_on_trailing_timesteps_is_that_of_diffusers(diffusers, num_steps, variance):
    scheduler = diffusers_scheduler(
        diffusers.DDPMScheduler, LINEAR, variance_type=f"fixed_{variance}", timestep_spacing="trailing"
    )
    scheduler.set_timesteps(num_steps)
    table = ddpm(LINEAR, levels(num_steps, 1000), variance)
    assert (table.time - 1).tolist() == scheduler.timesteps.tolist()
    before, last = largest_difference(table, scheduler)
    assert before < 5e-6
    # At timestep 0 diffusers adds no noise whatever the variance; we add sqrt(beta_1) = 0.01, as SFT-PG does.
    assert 0.01 < last < 0.05 if variance == "large" and num_steps == 1000 else last < 5e-6


@pytest.mark.parametrize("chosen", [[900, 411, 77, 5, 3], [979, 12], [640]])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_on_custom_timesteps_is_that_of_diffusers(diffusers, chosen, variance):
    schedule = COSINE.up_to(979)
    scheduler = diffusers_scheduler(diffusers.DDPMScheduler, schedule, variance_type=f"fixed_{variance}")
    scheduler.set_timesteps(timesteps=[level - 1 for level in chosen])
    assert same(largest_difference(ddpm(schedule, chosen, variance), scheduler))


@pytest.mark.parametrize("num_steps", STEPS)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_that_of_diffusers(diffusers, num_steps, eta):
    scheduler = diffusers_scheduler(diffusers.DDIMScheduler, LINEAR, timestep_spacing="trailing", set_alpha_to_one=True)
    scheduler.set_timesteps(num_steps)
    assert same(largest_difference(ddim(LINEAR, levels(num_steps, 1000), eta), scheduler, eta=eta))


def test_negative_controls_of_the_comparison_with_diffusers(diffusers):
    scheduler = diffusers_scheduler(diffusers.DDPMScheduler, LINEAR, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    chosen = levels(10, 1000)
    assert same(largest_difference(ddpm(LINEAR, chosen), scheduler))
    assert not same(largest_difference(ddpm(LINEAR, chosen, "large"), scheduler))
    assert not same(largest_difference(ddpm(LINEAR, [t - 1 for t in chosen]), scheduler))  # a level is a timestep + 1
    assert not same(largest_difference(ddim(LINEAR, chosen, 0.9), scheduler))
    shorter = diffusers_scheduler(diffusers.DDIMScheduler, LINEAR, timestep_spacing="trailing", set_alpha_to_one=False)
    shorter.set_timesteps(10)
    before, last = largest_difference(ddim(LINEAR, chosen), shorter)
    assert before < 5e-6 < 1e-3 < last  # it stops at alpha_bar_1, we go on to the data


def euler_difference(table, schedule, visited, kind, scheduler):
    """The largest difference of x_s, in units of its scale, over the steps of a deterministic scheduler of diffusers.

    It steps x_t of the path itself; ours steps x_t / scale_t. Both are given the same prediction of ``kind``.
    """
    inputs = torch.Generator().manual_seed(0)
    differences = []
    for k, timestep in enumerate(scheduler.timesteps):
        t, s = visited[k], visited[k + 1]
        x, prediction = torch.randn(2, 16, 2, generator=inputs)
        alpha, sigma = (torch.tensor([c[t] / schedule.scale[t]]).float() for c in (schedule.alpha, schedule.sigma))
        ours = table.law(k, x, to_epsilon(kind, prediction, x, alpha, sigma), event_dims=1).mean
        theirs = scheduler.step(prediction, timestep, schedule.scale[t] * x).prev_sample
        # Where the step divides by alpha, rounding grows by that much.
        gain = max(1.0, float(table.x_coef[k]))
        differences.append(float((ours - theirs / schedule.scale[s]).abs().max()) / gain)
    return max(differences)


@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 100, 500])
def test_ddim_on_rectified_flow_is_euler_of_diffusers(diffusers, num_steps):
    flow = make_schedule("rectified_flow")
    chosen = levels(num_steps, 999)  # not the last level, where their alpha is 0 and ours is not
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(sigmas=[t / 1000 for t in chosen])
    table = ddim(flow, chosen)
    np.testing.assert_allclose(table.time, scheduler.timesteps, rtol=1e-5)
    assert euler_difference(table, flow, [*chosen, 0], "flow", scheduler) < 5e-6


def test_negative_controls_of_rectified_flow(diffusers):
    flow, chosen = make_schedule("rectified_flow"), levels(10, 999)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000)
    for wrong in (ddim(flow, [t + 1 for t in chosen]), ddim(COSINE, chosen), ddim(flow, chosen, eta=1.0)):
        scheduler.set_timesteps(sigmas=[t / 1000 for t in chosen])
        assert euler_difference(wrong, flow, [*chosen, 0], "flow", scheduler) > 1e-4
    scheduler.set_timesteps(sigmas=[t / 1000 for t in chosen])
    assert euler_difference(ddim(flow, chosen), flow, [*chosen, 0], "v_prediction", scheduler) > 1e-2


@pytest.mark.parametrize("num_steps", [1, 5, 20])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ddim_on_karras_is_euler_of_diffusers(diffusers, kind, num_steps):
    scheduler = diffusers.EulerDiscreteScheduler(
        use_karras_sigmas=True, prediction_type=kind, sigma_min=0.01, sigma_max=50.0
    )
    scheduler.set_timesteps(num_steps)
    path = karras(num_steps, sigma_min=0.01, sigma_max=50.0)
    np.testing.assert_allclose(scheduler.sigmas, path.sigma[::-1], rtol=1e-5)
    visited = list(range(num_steps, -1, -1))
    assert euler_difference(ddim(path, visited[:-1]), path, visited, kind, scheduler) < 5e-6
    for other in {"epsilon", "v_prediction", "flow"} - {kind}:  # negative control
        scheduler.set_timesteps(num_steps)
        assert euler_difference(ddim(path, visited[:-1]), path, visited, other, scheduler) > 1e-2
