r"""Noise schedules: how much of the data is left at each training level.

Letters: T number of training levels; t = 0 ... T a level, 0 is data; beta_t the variance added by level t;
alpha_bar_t = prod_{s <= t} (1 - beta_s), so x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (Ho et al.
2020, eq. 4). diffusers counts from zero: its timestep is our level - 1.
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
    """A discrete variance-preserving schedule.

    ``alpha_bar``: float64, shape (T + 1,), strictly falling from alpha_bar[0] = 1.
    """

    name: str
    alpha_bar: Float64

    def __post_init__(self) -> None:
        a = self.alpha_bar
        if a.ndim != 1 or len(a) < 2 or a[0] != 1.0 or a[-1] <= 0 or not np.all(np.diff(a) < 0):
            raise ValueError(
                f"alpha_bar of schedule {self.name!r} must be a 1-D array that starts at 1 and falls strictly "
                f"to a positive value; received shape {a.shape} from {a[:1]} to {a[-1:]}. Every beta must lie "
                "in (0, 1)."
            )

    @property
    def num_levels(self) -> int:
        """T, the number of noise levels the network is trained on."""
        return len(self.alpha_bar) - 1

    @property
    def log_snr(self) -> Float64:
        """log(alpha_bar / (1 - alpha_bar)) of levels 1 ... T, shape (T,), falling."""
        a = self.alpha_bar[1:]
        return np.log(a) - np.log1p(-a)

    def last_level_with(self, alpha_bar: float) -> int:
        """The noisiest level that still keeps ``alpha_bar`` of the data, at least 1."""
        return max(1, int(np.searchsorted(-self.alpha_bar, -alpha_bar, side="right")) - 1)

    def up_to(self, level: int) -> NoiseSchedule:
        """The schedule without the levels beyond ``level``; the others keep their numbers."""
        return replace(self, alpha_bar=self.alpha_bar[: level + 1])

    def level_of(self, alpha_bar: Float64) -> Float64:
        """The (fractional) level whose log-SNR is that of ``alpha_bar``: FastDPM's alignment of noise levels.

        Log-SNR is interpolated linearly between levels; values beyond level 1 or T are held there.
        """
        log_snr = np.log(alpha_bar) - np.log1p(-alpha_bar)
        return np.interp(-log_snr, -self.log_snr, np.arange(1, self.num_levels + 1, dtype=np.float64))


def from_betas(name: str, betas: Float64) -> NoiseSchedule:
    """The schedule with these beta_1 ... beta_T."""
    return NoiseSchedule(name, np.concatenate([[1.0], np.cumprod(1.0 - betas)]))


def linear(num_levels: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> NoiseSchedule:
    """Linear betas (Ho et al. 2020, section 4); alpha_bar_T = 4.0e-5 at the defaults."""
    return from_betas("linear", np.linspace(beta_start, beta_end, num_levels))


def cosine(num_levels: int = 1000, s: float = 0.008, max_beta: float = 0.999) -> NoiseSchedule:
    """Cosine alpha_bar (Nichol & Dhariwal 2021, eq. 17), betas held below ``max_beta``."""
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
    return NoiseSchedule("published_toy", schedule.alpha_bar)


DEFAULT_SCHEDULE = "cosine"
"""The schedule of the shipped networks: of the named ones it leaves a 10-step DDPM the least to mend."""

SCHEDULES: dict[str, Callable[[int], NoiseSchedule]] = {
    "linear": linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "published_toy": published_toy,
}


def make_schedule(name: str, num_levels: int = 1000) -> NoiseSchedule:
    """The schedule called ``name`` with T = ``num_levels``; ValueError lists the names."""
    if name not in SCHEDULES:
        raise ValueError(f"Unknown noise schedule {name!r}. Choose one of {sorted(SCHEDULES)}.")
    if num_levels < 1:
        raise ValueError(f"A noise schedule needs at least 1 level; received num_levels = {num_levels}.")
    return SCHEDULES[name](num_levels)
