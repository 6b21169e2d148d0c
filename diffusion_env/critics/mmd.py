"""The maximum mean discrepancy (MMD) critic: the best f of a kernel's unit ball, in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from diffusion_env.critics.base import Critic, Penalty
from diffusion_env.fields import Count, Positive

MEDIAN_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)
SMALLEST_NORM = 1e-4
"""The least MMD that scores are divided by: equal batches have MMD 0, and only round-off would be scaled up."""


class MMDCritic(Critic):
    """f = (mean_i k(x, real_i) - mean_j k(x, fake_j)) / MMD, the witness of Gretton et al., "A Kernel
    Two-Sample Test", JMLR 2012, section 2.3, for the batches of the last update; f = 0 before the first.

    k is the mean over bandwidths h of exp(-|x - y|^2 / (2 h^2)). f has unit norm in the kernel's Hilbert
    space, so `distance` on the batches of the last update is their MMD (the biased estimate, a V-statistic),
    and on fresh events an unbiased estimate of the gap of this f, a lower bound of the MMD.
    """

    name = "mmd"
    in_step = True

    real: Tensor
    fake: Tensor
    bandwidths: Tensor
    norm: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        bandwidths: tuple[Positive, ...] | None = None,
        max_references: Count = 512,
    ) -> None:
        """`bandwidths` in network units; None takes the median distance of the first update's events times
        1/4, 1/2, 1, 2 and 4. Of each batch the first `max_references` events are kept. `seed` is unused: the
        other critics have it."""
        super().__init__(shape)
        given = None if bandwidths is None else _checked_bandwidths(bandwidths)
        self.config = {
            "shape": list(shape),
            "seed": seed,
            "bandwidths": given,
            "max_references": max_references,
        }
        self.max_references = max_references
        for name in ("real", "fake", "bandwidths", "norm"):
            self.register_buffer(name, torch.empty(0))
        self.reset(torch.Generator())

    def reset(self, generator: torch.Generator) -> None:
        """Forget the references: f = 0 again. The generator is unused."""
        assert self.shape is not None
        given = self.config["bandwidths"] or [math.nan] * len(MEDIAN_FACTORS)
        device = self.norm.device
        self.real = torch.empty(0, math.prod(self.shape), device=device)
        self.fake = self.real.clone()
        self.bandwidths = torch.tensor(given, device=device)
        self.norm = torch.ones((), device=device)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised witness (*batch,) at events x (*batch, *shape)."""
        assert self.shape is not None
        self.check_events(x, "events")
        flat = x.flatten(x.ndim - len(self.shape))
        if len(self.real) == 0:
            return 0 * flat.sum(-1)
        return self._witness(flat) / self.norm

    def _witness(self, flat: Tensor) -> Tensor:
        """The unnormalised witness (*batch,) at flat events (*batch, D)."""
        return mean_kernel(flat, self.real, self.bandwidths) - mean_kernel(flat, self.fake, self.bandwidths)

    @torch.no_grad()
    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """Take real (N, *shape) and fake (M, *shape) as the new references. `penalty` is ignored, there are
        no weights that it could move. Returns `mmd` of the new references beside the usual keys; `ipm` is the
        gap on these batches of the f from before."""
        self.check_batch(real, "real batch")
        self.check_batch(fake, "fake batch")
        real, fake = self.shard.gather(real), self.shard.gather(fake)
        ipm = self.distance(real, fake)
        self.check_finite({"ipm": ipm, "real batch": float(real.sum()), "fake batch": float(fake.sum())})
        with torch.inference_mode(False):
            self.real = real[: self.max_references].flatten(1).clone()
            self.fake = fake[: self.max_references].flatten(1).clone()
            if self.config["bandwidths"] is None and self.bandwidths.isnan().any():
                self.bandwidths = _median_bandwidths(torch.cat([self.real, self.fake]))
            mmd = _biased_mmd(self.real, self.fake, self.bandwidths)
            self.norm = mmd.clamp_min(SMALLEST_NORM)
        return {"critic_loss": -ipm, "ipm": ipm, "grad_norm": 0.0, "mmd": float(mmd)}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # The references have as many rows as the last batches had; make room, so that only a wrong width
        # fails.
        for name in ("real", "fake"):
            saved, own = state_dict.get(prefix + name), getattr(self, name)
            if saved is not None and saved.shape[1:] == own.shape[1:]:
                setattr(self, name, torch.empty_like(saved, device=own.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def mean_kernel(x: Tensor, y: Tensor, bandwidths: Tensor) -> Tensor:
    """Mean over y (n, D) and bandwidths (H,) of the Gaussian kernel k(x, y): (*batch,) for x (*batch, D)."""
    squared = x.square().sum(-1, keepdim=True) + y.square().sum(-1) - 2 * x @ y.T  # (*batch, n)
    squared = squared.clamp_min(0)
    kernels = [torch.exp(squared * (-0.5 / h**2)).mean(-1) for h in bandwidths]
    return torch.stack(kernels).mean(0)


def _biased_mmd(real: Tensor, fake: Tensor, bandwidths: Tensor) -> Tensor:
    """The V-statistic (E k(real, real') + E k(fake, fake') - 2 E k(real, fake))^(1/2), a scalar."""
    within = mean_kernel(real, real, bandwidths).mean() + mean_kernel(fake, fake, bandwidths).mean()
    return (within - 2 * mean_kernel(real, fake, bandwidths).mean()).clamp_min(0).sqrt()


def _median_bandwidths(events: Tensor) -> Tensor:
    factors = torch.tensor(MEDIAN_FACTORS, device=events.device)
    return factors * torch.pdist(events).median().clamp_min(SMALLEST_NORM)


def _checked_bandwidths(bandwidths: Sequence[float]) -> list[float]:
    checked = [float(h) for h in bandwidths]
    if not checked or not all(h > 0 and math.isfinite(h) for h in checked):
        raise ValueError(
            f"The critic 'mmd' was given the bandwidths {checked}, but it needs at least one and each must "
            "be a positive number, in network units. Pass for example (0.5, 1.0, 2.0), or None to derive "
            "them from the median distance of the first batches."
        )
    return checked
