"""The Gaussian law of a step against torch.distributions, and what a step without noise refuses."""

import pytest
import torch
from torch.distributions import Independent, Normal, kl_divergence

from diffusion_env.samplers.law import GaussianStep, sum_event
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import ddpm
from tests.support import normal


def reference(step):
    mean, std = torch.broadcast_tensors(step.mean, step.std)
    return Independent(Normal(mean, std), step.event_dims)


SHAPES = [(2,), (4,), (1, 3, 3)]


@pytest.mark.parametrize("shape", SHAPES)
def test_log_prob_is_the_sum_over_the_event(shape):
    step = GaussianStep(normal(7, *shape), torch.full((1,) * len(shape), 0.3), len(shape))
    x = normal(7, *shape, seed=1)
    assert step.log_prob(x).shape == (7,)
    torch.testing.assert_close(step.log_prob(x), reference(step).log_prob(x), rtol=1e-5, atol=1e-5)


def test_negative_control_the_mean_over_the_event_is_another_number():
    step, x = GaussianStep(normal(7, 4), torch.tensor([0.3])), normal(7, 4, seed=1)
    mean_log_prob = Normal(step.mean, 0.3).log_prob(x).mean(-1)
    assert not torch.allclose(step.log_prob(x), mean_log_prob, rtol=0.5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stds", [(0.3, 0.3), (0.3, 0.7), (2.0, 0.1)])
def test_kl_is_the_closed_form(shape, stds):
    ours, other = (
        GaussianStep(normal(5, *shape, seed=i), torch.full((1,) * len(shape), std), len(shape))
        for i, std in enumerate(stds)
    )
    assert ours.kl(other).shape == (5,)
    torch.testing.assert_close(ours.kl(other), kl_divergence(reference(ours), reference(other)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.kl(ours), torch.zeros(5), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_is_the_sum_over_the_event(shape):
    std = 0.1 + normal(7, *[1] * len(shape)).abs()
    step = GaussianStep(normal(7, *shape), std, len(shape))
    assert step.entropy().shape == (7,)
    torch.testing.assert_close(step.entropy(), reference(step).entropy(), rtol=1e-5, atol=1e-5)
    wider = GaussianStep(step.mean, 2 * std, len(shape))
    gain = torch.full((7,), step.mean[0].numel() * 0.6931472)
    torch.testing.assert_close(wider.entropy() - step.entropy(), gain, rtol=1e-4, atol=1e-4)


def test_at_is_the_reparametrised_draw_and_carries_gradients():
    mean, std = normal(7, 3).requires_grad_(), torch.tensor([0.3]).requires_grad_()
    z = normal(7, 3, seed=1)
    x = GaussianStep(mean, std).at(z)
    torch.testing.assert_close(x, mean + std * z)
    x.sum().backward()
    torch.testing.assert_close(mean.grad, torch.ones(7, 3))
    torch.testing.assert_close(std.grad, z.sum().reshape(1))
    drawn = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    assert torch.equal(
        GaussianStep(mean, std).sample(torch.Generator().manual_seed(1)), GaussianStep(mean, std).at(drawn)
    )


def test_shapes_that_would_broadcast_are_refused():
    step, other = (GaussianStep(normal(*shape), torch.tensor([0.3])) for shape in ((7, 2), (1, 2)))
    for call in (step.log_prob, step.at):
        with pytest.raises(AssertionError):
            call(normal(7, 1, 2))
    with pytest.raises(AssertionError):
        step.kl(other)


def test_samples_follow_the_law():
    step = GaussianStep(normal(1, 3).expand(50_000, 3), torch.tensor([0.5]))
    x = step.sample(torch.Generator().manual_seed(0))
    torch.testing.assert_close(x.mean(0), step.mean[0], rtol=0, atol=0.01)
    torch.testing.assert_close(x.T.cov(), 0.25 * torch.eye(3), rtol=0, atol=0.01)
    assert torch.equal(x, step.sample(torch.Generator().manual_seed(0)))
    assert not torch.equal(x, step.sample(torch.Generator().manual_seed(1)))


def test_a_plane_embedded_in_more_dimensions_keeps_its_ratio():
    def log_ratio(old_mean, new_mean, x):
        old, new = (GaussianStep(mean, torch.tensor([0.2])) for mean in (old_mean, new_mean))
        return new.log_prob(x) - old.log_prob(x)

    old, new, x = (0.3 * normal(9, 2, seed=seed) for seed in range(3))
    idle = normal(9, 2, seed=3)
    embedded = [torch.cat([part, idle], -1) for part in (old, new, x)]
    expected = log_ratio(old, new, x)
    torch.testing.assert_close(log_ratio(*embedded), expected, rtol=1e-5, atol=1e-5)
    assert expected.abs().min() > 0.01  # an average over dimensions would have halved every one


@pytest.mark.parametrize("shape", SHAPES)
def test_all_rows_at_once_equal_row_by_row(shape):
    table = make_table("ddpm", make_schedule("cosine"), 5)
    rows = torch.arange(5).unsqueeze(-1)  # (K, 1)
    x, eps, new = (normal(5, 6, *shape, seed=seed) for seed in range(3))
    law = table.law(rows, x, eps, len(shape))
    for k in range(5):
        single = table.law(k, x[k], eps[k], len(shape))
        torch.testing.assert_close(law.mean[k], single.mean)
        torch.testing.assert_close(law.log_prob(new)[k], single.log_prob(new[k]))
        torch.testing.assert_close(
            law.kl(table.law(rows, x, new, len(shape)))[k], single.kl(table.law(k, x[k], new[k], len(shape)))
        )
    per_sample = table.law(torch.tensor([4, 0, 2, 2, 1, 3]), x[0], eps[0], len(shape))
    torch.testing.assert_close(per_sample.mean[2], table.law(2, x[0, 2], eps[0, 2], len(shape)).mean)


def test_a_point_mass_cannot_be_scored_or_compared():
    table = make_table("ddim", make_schedule("cosine"), 5)
    x = normal(3, 2)
    step = table.law(2, x, x, 1)
    assert step.noiseless
    with pytest.raises(ValueError, match=r"Cannot score .* point mass .*final_std > 0"):
        step.log_prob(x)
    with pytest.raises(ValueError, match="Cannot take the entropy of a denoising step whose std is 0"):
        step.entropy()
    assert torch.equal(step.at(torch.ones(3, 2)), step.mean)  # it can be sampled
    for pair in [(step, GaussianStep(x, torch.ones(1))), (GaussianStep(x, torch.ones(1)), step)]:
        with pytest.raises(ValueError, match="Cannot compare"):
            pair[0].kl(pair[1])


def test_only_rows_without_noise_refuse():
    noisy = ddpm(make_schedule("cosine"), [500, 200])  # the small variance: none in the last row
    x = normal(3, 2)
    assert noisy.law(0, x, x, 1).log_prob(x).isfinite().all()
    assert noisy.law(torch.zeros(3, dtype=torch.long), x, x, 1).log_prob(x).isfinite().all()
    for k in (1, torch.tensor([0, 1, 0])):
        with pytest.raises(ValueError, match="Cannot score"):
            noisy.law(k, x, x, 1).log_prob(x)


def test_sum_event_sums_the_last_dimensions():
    x = normal(2, 3, 4)
    torch.testing.assert_close(sum_event(x, 1), x.sum(-1))
    torch.testing.assert_close(sum_event(x, 2), x.sum((-1, -2)))
