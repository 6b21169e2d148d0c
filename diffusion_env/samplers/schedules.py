r"""Noise schedules: how much data and how much noise is in x at each training level.

Letters: T number of training levels; t = 0 ... T a level, 0 is data; alpha_t and sigma_t the two columns of a schedule,
x_t = alpha_t x_0 + sigma_t eps with eps ~ N(0, I). Three kinds of path are in use:

    variance preserving   alpha^2 + sigma^2 = 1          DDPM (Ho et al. 2020, eq. 4)
    variance exploding    alpha = 1, sigma grows          EDM (Karras et al. 2022)
    rectified flow        alpha = 1 - u, sigma = u        flow matching (Liu et al. 2023), u = t / T

alpha_bar_t = alpha_t^2 / (alpha_t^2 + sigma_t^2) is the share of data in the variance of x_t, and beta_t of a variance
preserving path is the variance added by level t: alpha_bar_t = prod_{s <= t} (1 - beta_s). diffusers counts from zero:
its DDPM timestep is our level - 1.

Step tables need alpha_bar only: divided by scale_t = sqrt(alpha_t^2 + sigma_t^2), x_t of every path is the x_t of the
variance preserving path with the same alpha_bar. See `diffusion_env.samplers.tables`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The columns of a Gaussian path, each float64 of shape (T + 1,). Made by `from_alpha_bar` or `from_columns`.

    ``alpha`` starts at 1 and ``sigma`` at 0, the data. ``alpha_bar`` falls strictly from 1 and stays above 0. It is a
    column too because the betas of a variance preserving schedule define it, and the rounded square roots do not give
    it back to the last bit.
    """

    name: str
    alpha: Float64
    sigma: Float64
    alpha_bar: Float64

    def __post_init__(self) -> None:
        a = self.alpha_bar
        if a.ndim != 1 or len(a) < 2 or a[0] != 1.0 or not a[-1] > 0 or not np.all(np.diff(a) < 0):
            raise ValueError(
                f"alpha_bar of schedule {self.name!r} must be a 1-D array that starts at 1 and falls strictly "
                f"to a positive value; received shape {a.shape} from {a[:1]} to {a[-1:]}. Every beta must lie "
                "in (0, 1); where alpha and sigma are given, alpha / sigma must fall and stay above 0."
            )
        shapes = (self.alpha.shape, self.sigma.shape)
        if shapes != (a.shape, a.shape) or not np.allclose(_share_of_data(self.alpha, self.sigma), a, atol=1e-12):
            raise ValueError(
                f"alpha, sigma and alpha_bar of schedule {self.name!r} must be of one shape, with alpha_bar = "
                f"alpha^2 / (alpha^2 + sigma^2); received shapes {(*shapes, a.shape)}. Use from_alpha_bar or "
                "from_columns, which compute the others."
            )

    @property
    def num_levels(self) -> int:
        """T, the number of noise levels the network is trained on."""
        return len(self.alpha_bar) - 1

    @property
    def scale(self) -> Float64:
        """sqrt(alpha^2 + sigma^2), shape (T + 1,): the standard deviation of x_t where the data's is 1."""
        return np.hypot(self.alpha, self.sigma)

    @property
    def variance_preserving(self) -> bool:
        """Whether the scale is 1 at every level."""
        return bool(np.allclose(self.scale, 1.0, rtol=0, atol=1e-12))

    @property
    def log_snr(self) -> Float64:
        """log(alpha^2 / sigma^2) = log(alpha_bar / (1 - alpha_bar)) of levels 1 ... T, shape (T,), falling."""
        a = self.alpha_bar[1:]
        return np.log(a) - np.log1p(-a)

    def last_level_with(self, alpha_bar: float) -> int:
        """The noisiest level that still keeps ``alpha_bar`` of the data, at least 1."""
        return max(1, int(np.searchsorted(-self.alpha_bar, -alpha_bar, side="right")) - 1)

    def up_to(self, level: int) -> NoiseSchedule:
        """The schedule without the levels beyond ``level``; the others keep their numbers."""
        kept = slice(level + 1)
        return replace(self, alpha=self.alpha[kept], sigma=self.sigma[kept], alpha_bar=self.alpha_bar[kept])

    def level_of(self, alpha_bar: Float64) -> Float64:
        """The fractional levels (N,) whose log-SNR is that of ``alpha_bar`` (N,): FastDPM's alignment of noise levels.

        Log-SNR is interpolated linearly between levels; beyond level 1 or T the answer is 1 or T.
        """
        log_snr = np.log(alpha_bar) - np.log1p(-alpha_bar)
        return np.interp(-log_snr, -self.log_snr, np.arange(1, self.num_levels + 1, dtype=np.float64))


def _share_of_data(alpha: Float64, sigma: Float64) -> Float64:
    return alpha**2 / (alpha**2 + sigma**2)


def from_columns(name: str, alpha: Float64, sigma: Float64) -> NoiseSchedule:
    """The schedule of any Gaussian path, from alpha_0 ... alpha_T and sigma_0 ... sigma_T, each (T + 1,).

    Raises ValueError unless alpha starts at 1, sigma at 0, and alpha / sigma falls strictly and stays above 0.
    """
    if len(alpha) != len(sigma) or len(alpha) < 2 or alpha[0] != 1 or sigma[0] != 0:
        raise ValueError(
            f"alpha and sigma of schedule {name!r} must have one length T + 1 >= 2 and start at 1 and 0 (the data); "
            f"received lengths {len(alpha)}, {len(sigma)} and starts {alpha[:1]}, {sigma[:1]}."
        )
    return NoiseSchedule(name, alpha, sigma, _share_of_data(alpha, sigma))


def from_alpha_bar(name: str, alpha_bar: Float64) -> NoiseSchedule:
    """The variance preserving schedule with alpha_bar_0 = 1 ... alpha_bar_T, shape (T + 1,)."""
    with np.errstate(invalid="ignore"):  # the schedule refuses values outside [0, 1] with a sentence
        return NoiseSchedule(name, np.sqrt(alpha_bar), np.sqrt(1.0 - alpha_bar), alpha_bar)


def from_betas(name: str, betas: Float64) -> NoiseSchedule:
    """The variance preserving schedule with beta_1 ... beta_T, shape (T,)."""
    return from_alpha_bar(name, np.concatenate([[1.0], np.cumprod(1.0 - betas)]))


def linear(num_levels: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Linear betas (Ho et al. 2020, section 4); alpha_bar_T = 4.0e-5 at the defaults."""
    return from_betas("linear", np.linspace(beta_start, beta_end, num_levels))


def cosine(num_levels: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
    """Cosine alpha_bar (Nichol & Dhariwal 2021, eq. 17), betas at most ``max_beta``."""
    u = np.arange(num_levels + 1) / num_levels
    f = np.cos((u + s) / (1 + s) * math.pi / 2) ** 2
    return from_betas("cosine", np.minimum(1 - f[1:] / f[:-1], max_beta))


def sigmoid(num_levels: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Betas that rise along a logistic curve on [-6, 6] (GeoDiff, Xu et al. 2022, and diffusers' "sigmoid")."""
    ramp = 1.0 / (1.0 + np.exp(-np.linspace(-6.0, 6.0, num_levels)))
    return from_betas("sigmoid", beta_start + (beta_end - beta_start) * ramp)


def published_toy(num_levels: int = 10) -> NoiseSchedule:
    """SFT-PG's swiss-roll schedule: sigmoid betas 1e-5 ... 1e-2 whatever T. For reproduction only.

    alpha_bar_T is 0.951 at T = 10 and 0.605 at T = 100, far from 0, so a sampler started at N(0, I) starts
    from the wrong law: most of the published "DDPM, T = 10" gap is this prior mismatch, not the network.
    """
    schedule = sigmoid(num_levels, beta_start=1e-5, beta_end=1e-2)
    return replace(schedule, name="published_toy")


def karras(
    num_levels: int = 1000, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> NoiseSchedule:
    """Variance exploding, sigma_1 = ``sigma_min`` ... sigma_T = ``sigma_max`` (Karras et al. 2022, eq. 5).

    sigma^(1 / rho) rises linearly with the level, so levels are dense near the data.
    """
    roots = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), num_levels)[::-1]  # T = 1 keeps sigma_max
    return from_columns("karras", np.ones(num_levels + 1), np.append(0.0, roots**rho))


def rectified_flow(num_levels: int = 1000) -> NoiseSchedule:
    """Rectified flow, sigma_t = t / T and alpha_t = 1 - t / T (Liu et al. 2023; diffusers' timestep is our level).

    At the last level alpha would be 0: there x says nothing about x_0, and a step written in eps has no answer. As the
    cosine schedule limits its last beta, alpha_T is 1e-4 instead (less where T > 1000).
    """
    u = np.arange(num_levels + 1) / num_levels
    u[-1] = 1 - min(1e-4, 0.1 / num_levels)
    return from_columns("rectified_flow", 1 - u, u)


DEFAULT_SCHEDULE = "cosine"
"""The schedule of the shipped networks: of the named ones it leaves a 10-step DDPM the least to mend."""

SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "published_toy": published_toy,
    "karras": karras,
    "rectified_flow": rectified_flow,
}


def make_schedule(name: str, num_levels: int = 1000) -> NoiseSchedule:
    """The schedule called ``name`` with T = ``num_levels``; ValueError lists the names."""
    if name not in SCHEDULES:
        raise ValueError(f"Unknown noise schedule {name!r}. Choose one of {sorted(SCHEDULES)}.")
    if num_levels < 1:
        raise ValueError(f"A noise schedule needs at least 1 level; received num_levels = {num_levels}.")
    return SCHEDULES[name](num_levels)
