r"""Step tables: a few-step sampler is K steps of four numbers each.

    x[k+1] = x_coef[k] * x[k] + eps_coef[k] * eps_theta(x[k], time[k]) + std[k] * z,   z ~ N(0, I),   x[0] ~ N(0, I)

k = 0 ... K-1 runs from noise to data. Letters: t the noise level that step k starts from, s the one it ends at;
a_t = alpha_bar of t; time[k] the training level the network is asked at (fractional where FastDPM needs it). DDPM, DDIM
and FastDPM differ in the levels they visit and in sigma, the noise they add again; the mean is one formula (Song et al.
2021, eq. 12), computed here in float64 and stored in float32.

**Coordinates.** On a path x_t = alpha_t x_0 + sigma_t eps of any kind, a table works with x[k] = x_t / scale_t, where
scale_t = sqrt(alpha_t^2 + sigma_t^2). There alpha is sqrt(a_t) and sigma is sqrt(1 - a_t) on every path, so one formula
in a_t serves all; on a variance preserving path scale_t is 1. x[0] ~ N(0, I) is the right start whatever sigma_max is,
every state has about unit variance, and x[K] is the sample itself, because scale_0 = 1.
`diffusion_env.samplers.denoiser.as_denoiser` takes x[k] to the coordinates that a network was trained in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from diffusion_env.samplers.law import GaussianStep
from diffusion_env.samplers.schedules import Float64, NoiseSchedule, published_toy


class Row(NamedTuple):
    """Coefficients of one step, or of one step per batch entry: each (*batch, 1, ..., 1), to broadcast against x."""

    x_coef: Tensor
    eps_coef: Tensor
    std: Tensor
    action_scale: Tensor


@dataclass(frozen=True, eq=False)
class StepTable:
    """A sampler. ``x_coef``, ``eps_coef``, ``std``, ``time``: float32, shape (K,). ``start``: alpha_bar at k = 0.

    ``action_scale``, sqrt(eps_coef^2 + std^2): what one unit of a "step" action moves x.
    """

    name: str
    x_coef: Tensor
    eps_coef: Tensor
    std: Tensor
    time: Tensor
    start: float
    action_scale: Tensor = field(init=False, repr=False)
    noisy_rows: tuple[bool, ...] = field(init=False, repr=False)
    _single_rows: dict[tuple[int, int], Row] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        columns = [self.x_coef, self.eps_coef, self.std, self.time]
        if any(c.ndim != 1 or len(c) != len(self.x_coef) or len(c) < 1 for c in columns):
            raise ValueError(
                f"A step table needs four columns of one equal length K >= 1; received shapes "
                f"{[tuple(c.shape) for c in columns]}."
            )
        if any(c.dtype != torch.float32 for c in columns):
            raise ValueError(
                f"A step table is float32, or every state of a rollout would change its type; received columns of "
                f"{sorted({str(c.dtype) for c in columns})}. Convert them with .float()."
            )
        if not all(bool(c.isfinite().all()) for c in columns) or bool((self.std < 0).any()):
            raise ValueError("A step table must be finite and its std column must be >= 0; check the schedule.")
        object.__setattr__(self, "action_scale", (self.eps_coef**2 + self.std**2).sqrt())
        # Known on the host once, so that no step of a rollout has to ask the device.
        object.__setattr__(self, "noisy_rows", tuple(bool(s > 0) for s in self.std.tolist()))

    @property
    def num_steps(self) -> int:
        """K, the number of denoising steps."""
        return len(self.x_coef)

    def to(self, device: torch.device | str) -> StepTable:
        """The same table on another device."""
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.init and f.type == "Tensor"}
        return replace(self, **moved)

    def rows(self, k: int | Tensor, event_dims: int) -> Row:
        """The numbers of steps ``k`` (an int, or integers (*batch,)), each shaped (*batch, 1, ..., 1)."""
        if not isinstance(k, int):
            return self._read_rows(k, event_dims)
        if (k, event_dims) not in self._single_rows:  # read once: for small batches reading costs as much as a step
            self._single_rows[k, event_dims] = self._read_rows(k, event_dims)
        return self._single_rows[k, event_dims]

    def _read_rows(self, k: int | Tensor, event_dims: int) -> Row:
        columns = (self.x_coef[k], self.eps_coef[k], self.std[k], self.action_scale[k])
        return Row(*(c.reshape(c.shape + (1,) * event_dims) for c in columns))

    def noiseless(self, k: int | Tensor) -> bool:
        """Whether any of the steps ``k`` (an int, or any shape) has std 0.

        Asks the device only if the table has such a step at all.
        """
        if all(self.noisy_rows):
            return False
        return not self.noisy_rows[k] if isinstance(k, int) else bool((self.std[k] == 0).any())

    def law(self, k: int | Tensor, x: Tensor, eps: Tensor, event_dims: int) -> GaussianStep:
        """The law of x[k+1] given x[k] (*batch, *shape) and the network's answer ``eps`` (same shape)."""
        assert x.shape == eps.shape, (x.shape, eps.shape)
        row = self.rows(k, event_dims)
        mean = torch.addcmul(row.x_coef * x, row.eps_coef, eps)
        return GaussianStep(mean, row.std, event_dims, self.noiseless(k))

    def to_dict(self) -> dict[str, Any]:
        """JSON form; ``StepTable.from_dict`` reads it back exactly (float32 survives the decimal text)."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        return {name: v.tolist() if isinstance(v, Tensor) else v for name, v in values.items()}

    @classmethod
    def from_dict(cls, columns: dict[str, Any]) -> StepTable:
        """The table ``to_dict`` wrote."""
        values: dict[str, Any] = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in columns.items()}
        return cls(**values)


def _table(name: str, alpha_bar: Float64, time: Float64, eta: float, final_std: float) -> StepTable:
    """The table that visits noise levels ``alpha_bar`` (K + 1,), from noise to 1, asking at ``time`` (K,)."""
    assert alpha_bar.shape == (len(time) + 1,), (alpha_bar.shape, time.shape)
    a_t, a_s = alpha_bar[:-1], alpha_bar[1:]
    sigma = eta * posterior_std(a_t, a_s)
    x_coef = np.sqrt(a_s / a_t)
    eps_coef = np.sqrt(1 - a_s - sigma**2) - x_coef * np.sqrt(1 - a_t)  # Song et al. 2021, eq. 12
    std = _with_final_std(sigma, final_std)
    return StepTable(name, _float32(x_coef), _float32(eps_coef), std, _float32(time), float(a_t[0]))


def _float32(column: Float64) -> Tensor:
    return torch.tensor(column, dtype=torch.float32)


def _with_final_std(std: Float64, final_std: float) -> Tensor:
    if final_std < 0:
        raise ValueError(f"final_std is a standard deviation, >= 0; received {final_std}.")
    return _float32(np.append(std[:-1], max(std[-1], final_std)))


def posterior_std(a_t: Float64, a_s: Float64) -> Float64:
    """sqrt of DDPM's posterior variance beta_tilde (Ho et al. 2020, eq. 7) from levels t to s, shape (K,).

    ``a_t``, ``a_s``: alpha_bar of the levels, (K,) each.
    """
    assert a_t.shape == a_s.shape, (a_t.shape, a_s.shape)
    return np.sqrt((1 - a_s) / (1 - a_t) * (1 - a_t / a_s))


POWERS = {"uniform": 1, "quadratic": 2}
"""Spacings of levels; see `levels`."""


def levels(num_steps: int, num_levels: int, spacing: str = "uniform") -> list[int]:
    """K distinct levels T (j / K)^power, j = K ... 1: "uniform" (power 1) or "quadratic" (2, denser near the data).

    Source: DDIM (Song et al. 2021, appendix D), FastDPM.

    Raises ValueError for K < 1, K > T or an unknown spacing.
    """
    if not 1 <= num_steps <= num_levels:
        raise ValueError(
            f"num_steps must be between 1 and the {num_levels} levels the network was trained on; received {num_steps}."
        )
    if spacing not in POWERS:
        raise ValueError(f"Unknown spacing {spacing!r}. Choose one of {list(POWERS)}.")
    wanted = np.round(num_levels * (np.arange(num_steps, 0, -1) / num_steps) ** POWERS[spacing]).astype(int)
    # Rounding can merge levels near the data; push each at least to the number of steps still to come.
    return [int(t) for t in np.maximum(wanted, np.arange(num_steps, 0, -1))]


def _visit(schedule: NoiseSchedule, chosen: Sequence[int]) -> tuple[Float64, Float64]:
    """alpha_bar (K + 1,) and time (K,) of a falling subset of levels, ending at the data."""
    t = np.asarray(chosen)
    if t.ndim != 1 or len(t) < 1 or t[0] > schedule.num_levels or t[-1] < 1 or np.any(np.diff(t) >= 0):
        raise ValueError(
            f"levels must fall strictly within {schedule.num_levels} ... 1, at least one; received {list(chosen)}."
        )
    return schedule.alpha_bar[np.append(t, 0)], t.astype(np.float64)


def ddpm(schedule: NoiseSchedule, chosen: Sequence[int], variance: str = "small", final_std: float = 0.0) -> StepTable:
    """DDPM ancestral sampling on a falling subset of levels (Ho et al. 2020, algorithm 2).

    ``variance``: "small" = the posterior's beta_tilde, 0 in the last step; "large" = beta, also in the last step.
    ``final_std`` is the least std of the last step, because a policy needs a density there.
    """
    if variance not in ("small", "large"):
        raise ValueError(f"Unknown variance {variance!r}. Choose 'small' (beta_tilde) or 'large' (beta).")
    alpha_bar, time = _visit(schedule, chosen)
    table = _table("ddpm", alpha_bar, time, eta=1.0, final_std=final_std)
    if variance == "small":
        return table
    beta = 1 - alpha_bar[:-1] / alpha_bar[1:]
    return replace(table, std=_with_final_std(np.sqrt(beta), final_std))


def ddim(schedule: NoiseSchedule, chosen: Sequence[int], eta: float = 0.0, final_std: float = 0.0) -> StepTable:
    """DDIM(eta) on a falling subset of levels (Song et al. 2021, eq. 12 and 16); eta = 0 is deterministic."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1] (0 = DDIM, 1 = DDPM); received {eta}.")
    return _table("ddim", *_visit(schedule, chosen), eta=eta, final_std=final_std)


def fastdpm_step(
    schedule: NoiseSchedule,
    num_steps: int,
    kappa: float = 1.0,
    spacing: str = "quadratic",
    final_std: float = 0.0,
) -> StepTable:
    """FastDPM with STEP noise levels: DDIM(kappa) on a linear or quadratic subset (Kong & Ping 2021, section 3)."""
    chosen = levels(num_steps, schedule.num_levels, spacing)
    return replace(ddim(schedule, chosen, eta=kappa, final_std=final_std), name="fastdpm_step")


def fastdpm_var(
    schedule: NoiseSchedule,
    num_steps: int,
    kappa: float = 1.0,
    spacing: str = "quadratic",
    final_std: float = 0.0,
) -> StepTable:
    """FastDPM with VAR noise levels (Kong & Ping 2021, section 3), on a variance preserving schedule.

    K variances that rise linearly or quadratically from beta_1 to where their product meets the schedule's own
    alpha_bar_T; the network is asked at the fractional training level with the same noise.

    Raises ValueError for a schedule that is not variance preserving.
    """
    _refuse_other_paths("fastdpm", schedule)
    levels(num_steps, schedule.num_levels, spacing)  # the same bounds and spacings hold
    beta_1, target = 1 - schedule.alpha_bar[1], np.log(schedule.alpha_bar[-1])
    power = POWERS[spacing]

    def variances(last: float) -> Float64:
        return np.linspace(beta_1 ** (1 / power), last ** (1 / power), num_steps, dtype=np.float64) ** power

    a = schedule.alpha_bar[-1:]
    if num_steps > 1:
        last = brentq(lambda b: np.log1p(-variances(b)).sum() - target, beta_1, 1 - 1e-12, xtol=1e-14)
        a = np.cumprod(1 - variances(last), dtype=np.float64)
    alpha_bar = np.concatenate([a[::-1], [1.0]])
    return _table("fastdpm_var", alpha_bar, schedule.level_of(a[::-1]), eta=kappa, final_std=final_std)


def published_toy_ddpm(num_steps: int = 10, trained: NoiseSchedule | None = None) -> StepTable:
    """SFT-PG's swiss-roll sampler: T = K levels of `published_toy`, std sqrt(beta) in every step.

    For reproduction only: it starts at alpha_bar 0.951 (K = 10), so N(0, I) is the wrong start. A network that was not
    trained on `published_toy` itself is asked at those levels of its schedule ``trained`` that have the same noise.

    Raises ValueError where ``trained`` is not variance preserving.
    """
    if trained is not None:
        _refuse_other_paths("published_toy", trained)
    schedule = published_toy(num_steps)
    table = ddpm(schedule, levels(num_steps, num_steps), variance="large")
    time = table.time if trained is None else _float32(trained.level_of(schedule.alpha_bar[:0:-1]))
    return replace(table, name="published_toy", time=time)


def _refuse_other_paths(sampler: str, schedule: NoiseSchedule) -> None:
    """Both samplers are defined by betas, and ask at fractional levels, which other networks may not know."""
    if not schedule.variance_preserving:
        raise ValueError(
            f"The sampler {sampler!r} is defined by the betas of a variance preserving schedule, and {schedule.name!r} "
            "is none. Use 'ddpm', 'ddim' or 'fastdpm_step'."
        )
