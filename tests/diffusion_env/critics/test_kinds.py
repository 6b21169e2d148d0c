"""What each critic is: its regulariser, its bound, its closed form."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffusion_env.critics import (
    BaselineCritic,
    Critic,
    EnergyCritic,
    FrozenCritic,
    GradientPenaltyCritic,
    MMDCritic,
    SpectralNormCritic,
    WeightClippingCritic,
    make_critic,
)

SHIFT = torch.tensor([2.0, 0.0])


def gaussians(seed: int, n: int = 128, shift: Tensor = SHIFT) -> tuple[Tensor, Tensor]:
    """Two standard Gaussians, the real one moved by `shift`: their W1 is the length of the shift."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 2, generator=generator) + shift, torch.randn(n, 2, generator=generator)


def train(critic: Critic, steps: int) -> Critic:
    for seed in range(steps):
        critic.update(*gaussians(seed))
    return critic


def largest_weight(critic: Critic) -> float:
    return max(float(weight.detach().abs().max()) for weight in critic.parameters())


@pytest.mark.parametrize("gamma", [0.3, 1.0])
def test_energy_loss_and_its_optimum(gamma: float) -> None:
    critic = EnergyCritic((2,), gamma=gamma, width=64)
    real, fake = gaussians(0, shift=10 * SHIFT)
    f_real, f_fake = critic(real).detach(), critic(fake).detach()
    regulariser = gamma * (f_real.square().mean() + f_fake.square().mean())
    metrics = critic.update(real, fake)
    assert metrics["regulariser"] == pytest.approx(float(regulariser), rel=1e-4)
    loss = f_fake.mean() - f_real.mean() + regulariser
    assert metrics["critic_loss"] == pytest.approx(float(loss), rel=1e-4)
    for _ in range(300):
        critic.update(real, fake)
    # Disjoint supports: f = 1 / (2 gamma) on the data and minus that on the samples.
    assert critic.distance(real, fake) == pytest.approx(1 / gamma, rel=0.02)


def test_energy_without_its_penalty_is_unbounded() -> None:
    assert train(EnergyCritic((2,), gamma=0.0, width=64), 300).distance(*gaussians(999)) > 10 / 0.3


def test_wasserstein_critics_measure_w1() -> None:
    real, fake = gaussians(999, 2000)
    for critic in (SpectralNormCritic((2,)), GradientPenaltyCritic((2,))):
        assert train(critic, 120).distance(real, fake) == pytest.approx(2.0, abs=0.25), critic.name


def test_spectral_norm_bounds_the_slope() -> None:
    points = 3 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    critic, control = SpectralNormCritic((2,)), EnergyCritic((2,), gamma=0.0)
    for steps in (1, 20, 40):
        assert train(critic, steps).lipschitz(points) <= 1.01
    assert train(control, 40).lipschitz(points) > 1.5


def test_gradient_penalty_bounds_the_slope_softly() -> None:
    points = torch.cat(gaussians(999, 1000))
    penalised = train(GradientPenaltyCritic((2,)), 100).lipschitz(points)
    control = train(GradientPenaltyCritic((2,), gradient_weight=0.0), 100).lipschitz(points)
    assert penalised < 1.6
    assert control > 5 * penalised


def test_gradient_penalty_is_one_sided() -> None:
    critic = GradientPenaltyCritic((2,))
    real, fake = gaussians(0)
    for weight in critic.network.parameters():
        weight.data *= 0.1
    assert critic.lipschitz(real) < 0.5
    assert critic.update(real, fake)["regulariser"] == 0.0
    for weight in critic.network.parameters():
        weight.data *= 20.0
    slope = critic.lipschitz(torch.cat([real, fake]))
    assert slope > 1.5
    assert 0 < critic.update(real, fake)["regulariser"] <= 10 * (2 * slope) ** 2


def test_weight_clipping_clips_every_weight() -> None:
    critic = WeightClippingCritic((2,), clip=0.02)
    assert largest_weight(critic) == pytest.approx(0.02)
    assert largest_weight(train(critic, 5)) == pytest.approx(0.02)
    assert largest_weight(train(EnergyCritic((2,)), 5)) > 0.05


def test_weight_clipping_default_slope_is_of_order_one() -> None:
    assert 0.3 < train(WeightClippingCritic((2,)), 150).lipschitz(gaussians(999)[0]) < 3.0


@pytest.mark.parametrize("make", [EnergyCritic, BaselineCritic, SpectralNormCritic, WeightClippingCritic])
def test_penalty_reaches_the_critic_and_nothing_else(make: Callable[..., Critic]) -> None:
    real, fake = gaussians(0)
    value = nn.Linear(2, 1)
    fake.requires_grad_()
    scale = torch.zeros((), requires_grad=True)

    def penalty(scores: Tensor) -> Tensor:
        return 100 * (value(fake).squeeze(-1) - scores).square().mean() + scale * scores.mean()

    with_penalty, without = make((2,)), make((2,))
    metrics = with_penalty.update(real, fake, penalty)
    control = without.update(real, fake, lambda scores: 0 * scores.mean())
    assert metrics["critic_loss"] == pytest.approx(control["critic_loss"] + metrics["penalty"], rel=1e-4)
    assert metrics["grad_norm"] > 2 * control["grad_norm"]
    assert fake.grad is None and scale.grad is None
    assert all(p.grad is None for p in value.parameters())


def test_baseline_fits_its_value_network_on_trajectories() -> None:
    critic = BaselineCritic((2,), width=64)
    critic.set_learning_rate(1e-2)
    _, fake = gaussians(0)
    xs = torch.stack([torch.zeros_like(fake), fake, fake])  # at k = 1 the sample is known, at k = 0 it is not
    for _ in range(150):
        critic.trajectory_penalty(xs)
    scores = critic(fake).detach()
    unexplained = float(critic.trajectory_penalty(xs)(scores))
    assert unexplained == pytest.approx(float(scores.var(correction=0)) / 2, rel=0.1)
    assert torch.equal(scores, critic(fake)), "the value step must leave the critic alone"


def test_baseline_penalty_is_weighted() -> None:
    _, fake = gaussians(0)
    xs = torch.stack([0.5 * fake, fake])
    critics = [BaselineCritic((2,), value_weight=weight) for weight in (1.0, 3.0)]
    first, second = (critic.trajectory_penalty(xs)(critic(fake)) for critic in critics)
    assert float(second.detach()) == pytest.approx(3 * float(first.detach()), rel=1e-5)


def test_baseline_penalty_bounds_the_gap_where_samples_reach() -> None:
    bounded, control = BaselineCritic((2,)), BaselineCritic((2,))
    for seed in range(200):
        real, fake = gaussians(seed, 256, shift=0.25 * SHIFT)
        # The states tell V nothing: the penalty is the variance of f over samples.
        bounded.update(real, fake, bounded.trajectory_penalty(torch.stack([0 * fake, fake])))
        control.update(real, fake, lambda scores: 0 * scores.mean())
    fresh = gaussians(999, 20_000, shift=0.25 * SHIFT)
    chi_squared = math.exp(0.25) - 1
    assert bounded.distance(*fresh) == pytest.approx(chi_squared / 2, abs=0.05)
    assert control.distance(*fresh) > 10


def kernel_mean(squared: float, variance: float, h: float) -> float:
    """E exp(-|z|^2 / (2 h^2)) for z ~ N(m, variance I) in the plane, |m|^2 = squared."""
    return h**2 / (h**2 + variance) * math.exp(-squared / (2 * (h**2 + variance)))


@pytest.mark.parametrize("bandwidths", [[1.0], [0.5, 2.0]])
def test_mmd_of_two_gaussians(bandwidths: list[float]) -> None:
    critic = MMDCritic((2,), bandwidths=bandwidths, max_references=3000)
    real, fake = gaussians(0, 3000)
    assert critic.distance(real, fake) == 0.0
    metrics = critic.update(real, fake)
    means = [(kernel_mean(0, 2, h), kernel_mean(4, 2, h)) for h in bandwidths]
    exact = math.sqrt(sum(2 * within - 2 * between for within, between in means) / len(bandwidths))
    assert metrics["mmd"] == pytest.approx(exact, rel=0.02)
    assert critic.distance(real, fake) == pytest.approx(metrics["mmd"], rel=1e-4)
    for point in ([0.0, 0.0], [2.0, 1.0]):
        near = [kernel_mean((point[0] - 2) ** 2 + point[1] ** 2, 1, h) for h in bandwidths]
        far = [kernel_mean(point[0] ** 2 + point[1] ** 2, 1, h) for h in bandwidths]
        witness = (sum(near) - sum(far)) / len(bandwidths) / exact
        assert float(critic(torch.tensor(point))) == pytest.approx(witness, abs=0.04)


def test_mmd_of_one_gaussian_is_near_zero() -> None:
    real, fake = gaussians(0, 3000, shift=0 * SHIFT)
    assert MMDCritic((2,), bandwidths=[1.0], max_references=3000).update(real, fake)["mmd"] < 0.04
    equal = MMDCritic((2,))
    assert equal.update(real, real)["mmd"] < 1e-3
    assert equal(real).abs().max() < 1e-2


def test_mmd_bandwidths_follow_the_first_batches_and_stay() -> None:
    critic = MMDCritic((2,))
    real, fake = gaussians(0)
    critic.update(100 * real, 100 * fake)
    median = torch.pdist(100 * torch.cat([real, fake])).median()
    assert torch.allclose(critic.bandwidths, median * torch.tensor([0.25, 0.5, 1.0, 2.0, 4.0]))
    critic.update(real, fake)
    assert torch.allclose(critic.bandwidths[2], median)


def test_mmd_keeps_at_most_max_references() -> None:
    critic = MMDCritic((2,), max_references=50)
    real, fake = gaussians(0)
    critic.update(real, fake[:20])
    assert torch.equal(critic.real, real[:50]) and torch.equal(critic.fake, fake[:20])


def test_frozen_critic_of_a_function() -> None:
    critic = make_critic(lambda x: x[..., 0], (2,))
    real, fake = gaussians(0)
    metrics = critic.update(real, fake, penalty=lambda scores: scores.mean())
    assert metrics["ipm"] == critic.distance(real, fake) == pytest.approx(2.0, abs=0.4)
    assert critic.lipschitz(real) == 1.0
    assert math.isnan(FrozenCritic(lambda x: x[..., 0].detach()).lipschitz(real))


@pytest.mark.parametrize("name", ["energy", "spectral_norm", "mmd"])
def test_frozen_critic_of_a_path_never_moves(name: str, tmp_path: Path) -> None:
    trained = train(make_critic(name, (2,)), 3)
    path = trained.save(tmp_path / "reward")
    x = gaussians(5)[0]
    for spelling in (path, str(path), f"frozen:{path}", f"frozen:{tmp_path / 'reward'}"):
        frozen = make_critic(spelling, (2,))
        assert isinstance(frozen, FrozenCritic)
        train(frozen, 3)
        assert torch.equal(frozen(x), trained(x))
    again = make_critic(frozen.save(tmp_path / "again"), (2,))
    assert isinstance(again, FrozenCritic) and not isinstance(again.reward, FrozenCritic)
    assert torch.equal(again(x), trained(x))
    train(trained, 1)
    assert not torch.equal(again(x), trained(x))


def test_fourier_features_see_what_a_plain_network_does_not() -> None:
    """A few samples between two lines of data: seen by the energy critic, not by one without high frequencies."""
    generator = torch.Generator().manual_seed(0)

    def points(n: int, stray: float) -> Tensor:
        side = torch.rand(n, generator=generator).gt(0.5).float() * 0.6 - 0.3
        middle = torch.rand(n, generator=generator).lt(stray)
        across = torch.where(middle, 0.0, side) + 0.01 * torch.randn(n, generator=generator)
        return torch.stack([across, torch.randn(n, generator=generator)], -1)

    def seen(frequency: float) -> float:
        critic = EnergyCritic((2,), frequency=frequency, learning_rate=2e-3)
        for _ in range(600):
            critic.update(points(128, 0.0), points(128, 0.05))
        strays, data = points(500, 1.0), points(500, 0.0)
        return critic.distance(data, strays)

    assert seen(4.0) > 0.5
    assert seen(1e-3) < 0.2
