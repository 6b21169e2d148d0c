r"""The theorem the method rests on (Fan & Lee 2023, theorem 4.1), held where every term has a closed form.

    grad_theta Phi(p_theta, q) = - E_p[ f*(x_0) sum_k grad_theta log p_theta(x[k+1] | x[k]) ]

Task: the denoiser is linear, eps = a * x + b, theta = (a, b), so every x[k] is Gaussian with a mean and a variance
that follow from the step table. Data q: another Gaussian. Letters: m, s the mean and std of the samples x[K].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from agents.algorithms.policy_gradient import score_function_loss
from agents.algorithms.stein import later_advantages, slope_loss
from agents.core.advantages import advantages, regression_weights
from agents.core.policy import DenoisingPolicy, all_steps
from agents.core.rollout import Trajectories, collect
from diffusion_env import ENV_ID
from diffusion_env.data.dataset import Dataset
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable
from diffusion_env.samplers.walk import walk
from diffusion_env.vector_env import DDPMShortcutVectorEnv

K, B, BATCHES = 4, 512, 60
GAP = 0.8  # between the means of data and samples
SIGMAS = 4.5  # of the Monte-Carlo mean; false alarms once in 10^5
TABLE = StepTable(
    "linear Gaussian",
    x_coef=torch.tensor([1.3, 1.1, 1.05, 1.0]),
    eps_coef=torch.tensor([-0.6, -0.5, -0.3, -0.2]),
    std=torch.tensor([0.5, 0.4, 0.3, 0.2]),
    time=torch.tensor([100.0, 60.0, 30.0, 5.0]),
    start=1e-3,
)
Reward = Callable[[Tensor], Tensor]
Baseline = Callable[[Tensor, Tensor], Tensor]


class LinearDenoiser(nn.Module):
    """eps = a * x + b, elementwise."""

    schedule = make_schedule("cosine", 100)

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.shape = tuple(a.shape)
        self.a, self.b = nn.Parameter(a), nn.Parameter(b)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.a * x + self.b


def sample_law(a: Tensor, b: Tensor, start_row: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """slope, offset, std with x[K] | x[start_row] ~ N(slope * x + offset, std^2)."""
    slope, offset, variance = torch.ones_like(a), torch.zeros_like(a), torch.zeros_like(a)
    for k in range(start_row, K):
        gain = TABLE.x_coef[k] + TABLE.eps_coef[k] * a
        slope, offset = gain * slope, gain * offset + TABLE.eps_coef[k] * b
        variance = gain**2 * variance + TABLE.std[k] ** 2
    return slope, offset, variance.sqrt()


def mean_and_std(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    slope, offset, std = sample_law(a, b)
    return offset, (slope**2 + std**2).sqrt()  # x[0] ~ N(0, 1)


class Case(NamedTuple):
    """A sampler, a metric's witness f*, and the exact gradient of the metric by (a, b), flattened."""

    policy: DenoisingPolicy
    envs: DDPMShortcutVectorEnv
    gradient: NDArray[np.float64]


def make_case(a: Tensor, b: Tensor, witness: Reward, gradient: NDArray[np.float64]) -> Case:
    network = LinearDenoiser(a, b)
    data = torch.zeros(20, *network.shape)
    dataset = Dataset("unused", data, data, torch.zeros(network.shape), 1.0)
    kwargs: dict[str, Any] = {"num_steps": K, "sampler": TABLE, "critic": witness, "train_critic": False}
    envs = gym.make_vec(ENV_ID, num_envs=B, array_type="torch", dataset=dataset, denoiser=network, **kwargs)
    assert isinstance(envs, DDPMShortcutVectorEnv)
    return Case(DenoisingPolicy(network, TABLE), envs, gradient)


def wasserstein_case() -> Case:
    """W1 in one dimension: f* = x where the data lie to the right at equal std.

    Its exact gradient: central differences of W1 = integral of |F_q^-1 - F_p^-1|, by quadrature in the quantiles.
    """
    theta = torch.tensor([[0.4], [-0.3]], dtype=torch.float64)
    m, s = (float(v) for v in mean_and_std(theta[0], theta[1]))
    u = (np.arange(20_000) + 0.5) / 20_000
    z = torch.special.ndtri(torch.tensor(u)).numpy()

    def w1(point: Tensor) -> float:
        m_p, s_p = (float(v) for v in mean_and_std(point[0], point[1]))
        return float(np.abs((m + GAP - m_p) + (s - s_p) * z).mean())

    step = 1e-4 * torch.eye(2, dtype=torch.float64).unsqueeze(-1)
    gradient = np.array([(w1(theta + h) - w1(theta - h)) / 2e-4 for h in step])
    a, b = theta.float()
    return make_case(a, b, lambda x: x[..., 0], gradient)


def mmd_case() -> Case:
    """MMD of the linear kernel x.y in the plane: the distance of the means, f* = <direction, x>."""
    theta = torch.tensor([[0.4, -0.2], [-0.3, 0.5]], dtype=torch.float64, requires_grad=True)
    target = mean_and_std(theta[0], theta[1])[0].detach() + GAP * torch.tensor([0.6, -0.8])
    (gradient,) = torch.autograd.grad((target - mean_and_std(theta[0], theta[1])[0]).norm(), theta)
    direction = torch.tensor([0.6, -0.8])
    a, b = theta.detach().float()
    return make_case(a, b, lambda x: x @ direction, gradient.flatten().numpy())


CASES = {"wasserstein": wasserstein_case, "mmd": mmd_case}


def linear_denoiser(case: Case) -> LinearDenoiser:
    assert isinstance(case.policy.net, LinearDenoiser)
    return case.policy.net


def exact_value(case: Case) -> Baseline:
    """V(x[k], k) = E[f(x_0) | x[k]]: f is linear, so it is f of the conditional mean."""
    network = linear_denoiser(case)
    laws = [sample_law(network.a.detach(), network.b.detach(), k) for k in range(K)]
    slope, offset = (torch.stack(parts).unsqueeze(1) for parts in list(zip(*laws, strict=True))[:2])
    return lambda x, x_next: case.envs.critic(slope * x + offset)


def no_baseline(x: Tensor, x_next: Tensor) -> Tensor:
    return torch.zeros(x.shape[:2])


def roll(case: Case, seed: int) -> list[Trajectories]:
    generator = torch.Generator().manual_seed(seed)
    x, found = case.envs.reset(seed=seed)[0]["x"], []
    for _ in range(BATCHES):
        trajectories, x = collect(case.envs, case.policy, x, generator, lambda ended, reward: True)
        assert trajectories is not None
        found.append(trajectories)
    return found


def estimates(case: Case, baseline: Baseline, seed: int = 0, permute: bool = False) -> NDArray[np.float64]:
    """The score-function estimate of grad Phi of every batch, (BATCHES, number of weights)."""
    rows, gradients = all_steps(K, torch.device("cpu")), []
    for t in roll(case, seed):
        score = case.envs.critic(t.x0.roll(1, 0) if permute else t.x0)
        advantage = advantages(baseline(t.xs[:-1], t.xs[1:]), score)
        loss, _ = score_function_loss(case.policy(t.xs[:-1], rows).log_prob(t.xs[1:]), advantage)
        parts = torch.autograd.grad(K * loss, list(case.policy.parameters()))  # the loss is a mean over the K steps
        gradients.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    return np.stack(gradients)


def agrees(found: NDArray[np.float64], exact: NDArray[np.float64]) -> bool:
    """Whether the mean over batches lies within its Monte-Carlo interval of ``exact``, which must be a narrow one."""
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(SIGMAS * error < 0.5 * np.linalg.norm(exact)), "too few trajectories to tell anything"
    rounding = 1e-5 * np.linalg.norm(exact)  # float32; a linear reward's pathwise gradient by b has no variance
    return bool(np.all(np.abs(found.mean(axis=0) - exact) < SIGMAS * error + rounding))


@pytest.mark.parametrize("name", CASES)
def test_the_policy_gradient_is_the_gradient_of_the_ipm(name: str) -> None:
    case = CASES[name]()
    found = estimates(case, no_baseline)
    assert agrees(found, case.gradient)
    # Negative controls: the reward's sign, half of the steps' sum, scores given to the wrong trajectories.
    assert not agrees(-found, case.gradient)
    assert not agrees(found / 2, case.gradient)
    assert not agrees(estimates(case, no_baseline, permute=True), case.gradient)


@pytest.mark.parametrize("name", CASES)
def test_the_value_baseline_is_unbiased_and_reduces_variance(name: str) -> None:
    case = CASES[name]()
    plain, with_value = estimates(case, no_baseline), estimates(case, exact_value(case), seed=1)
    assert agrees(with_value, case.gradient)
    assert with_value.var(axis=0).sum() < 0.5 * plain.var(axis=0).sum()


def stein_estimates(case: Case, value: Reward, seed: int, whole: bool = True) -> NDArray[np.float64]:
    """As `estimates`, with the baseline V(x[k+1], k+1) = ``value`` of x[1] ... x[K-1] and its slope; ``whole`` False
    leaves the slope out."""
    rows, gradients = all_steps(K, torch.device("cpu")), []
    for t in roll(case, seed):
        x_next = t.xs[1:].clone().requires_grad_()
        phi = torch.cat([value(x_next[:-1]), case.envs.critic(x_next[-1:])])  # (K, B)
        (slope,) = torch.autograd.grad(phi.sum(), x_next)
        values = torch.cat([torch.zeros_like(phi[:1]), phi.detach()[:-1]])  # V(x[k], k); the first is never used
        left = later_advantages(advantages(values, case.envs.critic(t.x0)), 1.0, exact_end=True)
        law = case.policy(t.xs[:-1], rows)
        slope = slope if whole else torch.zeros_like(slope)
        loss = score_function_loss(law.log_prob(t.xs[1:]), left)[0] + slope_loss(law, t.xs[1:], slope)
        parts = torch.autograd.grad(K * loss, list(case.policy.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    return np.stack(gradients)


@pytest.mark.parametrize("name", CASES)
def test_the_stein_baseline_is_unbiased_whatever_v_and_reduces_variance(name: str) -> None:
    case = CASES[name]()

    def wrong(x: Tensor) -> Tensor:
        return (x.square().sum(-1) + 3 * x.sum(-1)).sin()

    def exact(x: Tensor) -> Tensor:
        whole = torch.cat([torch.zeros_like(x[:1]), x])
        return exact_value(case)(whole, whole)[1:]

    with_wrong, with_exact = stein_estimates(case, wrong, 2), stein_estimates(case, exact, 3)
    assert agrees(with_wrong, case.gradient)
    assert agrees(with_exact, case.gradient)
    with_value = estimates(case, exact_value(case), seed=1)
    assert with_exact.var(axis=0).sum() < 0.7 * with_value.var(axis=0).sum()
    assert not agrees(stein_estimates(case, exact, 3, whole=False), case.gradient)  # negative control


@pytest.mark.parametrize("name", CASES)
def test_negative_control_a_baseline_that_sees_the_action_is_biased(name: str) -> None:
    case = CASES[name]()
    assert not agrees(estimates(case, lambda x, x_next: case.envs.critic(x_next)), case.gradient)


@pytest.mark.parametrize("name", CASES)
def test_the_pathwise_gradient_is_the_same(name: str) -> None:
    case, generator = CASES[name](), torch.Generator().manual_seed(0)
    network, gradients = linear_denoiser(case), []
    for _ in range(BATCHES):
        start = torch.randn(B, *network.shape, generator=generator)
        *_, x0 = walk(TABLE, network, start, generator)
        parts = torch.autograd.grad(-case.envs.critic(x0).mean(), list(network.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]).double().numpy())
    assert agrees(np.stack(gradients), case.gradient)


TEMPERATURE = 1.0


def log_mean_exp(theta: Tensor) -> Tensor:
    """log E exp(f(x_0) / temperature) for f(x) = x, in closed form, of theta (2, 1): a log-normal law."""
    m, s = mean_and_std(theta[0], theta[1])
    return (m / TEMPERATURE + s**2 / (2 * TEMPERATURE**2)).squeeze()


def score_gradient(case: Case, weight: Callable[[Tensor], Tensor]) -> Tensor:
    """The gradient by (a, b) of `score_function_loss`, (2,), mean over all batches, with weights of f(x_0) (B,)."""
    steps, gradients = all_steps(K, torch.device("cpu")), []
    for t in roll(case, seed=5):
        weights = weight(case.envs.critic(t.x0)).expand(K, -1)
        loss, _ = score_function_loss(case.policy(t.xs[:-1], steps).log_prob(t.xs[1:]), weights)
        parts = torch.autograd.grad(K * loss, list(case.policy.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(gradients).mean(0)


def test_on_policy_the_regression_is_a_policy_gradient() -> None:
    """`rwr` with one step on each batch: its gradient is that of the advantage exp(A / T) - 1, and exactly
    - grad log E exp(f / T), which a sample of low reward is pushed away by as well."""
    case = wasserstein_case()
    network = linear_denoiser(case)
    theta = torch.stack([network.a.detach(), network.b.detach()]).requires_grad_()
    (exact,) = torch.autograd.grad(-log_mean_exp(theta), theta)
    mean = float(mean_and_std(*theta.detach())[0])
    rwr = score_gradient(case, lambda f: regression_weights((f - mean).expand(K, -1), TEMPERATURE)[0])
    shifted = score_gradient(case, lambda f: ((f - mean) / TEMPERATURE).exp() - 1)
    plain = score_gradient(case, lambda f: f - mean)
    cosine = nn.CosineSimilarity(dim=0)
    assert cosine(rwr, shifted) > 0.99
    assert cosine(rwr, exact.flatten()) > 0.99
    # Negative controls: the advantage without the exponential, and rewards that belong to other trajectories.
    assert cosine(rwr, plain) < 0.99
    assert cosine(rwr, score_gradient(case, lambda f: ((f.roll(1) - mean) / TEMPERATURE).exp() - 1)) < 0.9


def test_the_closed_form_law_of_the_samples() -> None:
    case = wasserstein_case()
    network = linear_denoiser(case)
    x0 = torch.cat([t.x0 for t in roll(case, 3)])
    m, s = mean_and_std(network.a.detach(), network.b.detach())
    assert float(x0.mean()) == pytest.approx(float(m), abs=SIGMAS * float(s) / len(x0) ** 0.5)
    assert float(x0.std()) == pytest.approx(float(s), rel=SIGMAS / (2 * len(x0)) ** 0.5)
