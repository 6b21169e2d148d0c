"""The Gaussian law of one denoising step: the one place that samples, scores and compares it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)


def sum_event(values: Tensor, event_dims: int) -> Tensor:
    """Sum over the last ``event_dims`` dimensions: (*batch, *shape) -> (*batch,)."""
    return values.flatten(-event_dims).sum(-1)


@dataclass(frozen=True)
class GaussianStep:
    """N(mean, std^2 I) over one event of ``event_dims`` dimensions.

    ``mean``: (*batch, *shape). ``std``: broadcasts against ``mean``. ``noiseless`` says that some std is 0:
    such a step is a point mass, it can be sampled but not scored.
    """

    mean: Tensor
    std: Tensor
    event_dims: int = 1
    noiseless: bool = False

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """mean + std * z, shape (*batch, *shape)."""
        z = torch.randn(self.mean.shape, generator=generator, device=self.mean.device, dtype=self.mean.dtype)
        return self.at(z)

    def at(self, z: Tensor) -> Tensor:
        """mean + std * z for a standard normal ``z`` (*batch, *shape), differentiable in mean and std."""
        assert z.shape == self.mean.shape, (z.shape, self.mean.shape)
        return torch.addcmul(self.mean, self.std, z)

    def entropy(self) -> Tensor:
        """Differential entropy in nats, summed over the event, shape (*batch,)."""
        self._refuse_noiseless("take the entropy of")
        per_component = self.std.log() + _LOG_SQRT_2PI + 0.5
        return sum_event(per_component.expand_as(self.mean), self.event_dims)

    def log_prob(self, x: Tensor) -> Tensor:
        """log N(x; mean, std^2 I), **summed** over the event, shape (*batch,).

        Raises ValueError where the law is a point mass, which has no density.
        """
        assert x.shape == self.mean.shape, (x.shape, self.mean.shape)
        self._refuse_noiseless("score")
        z = (x - self.mean) / self.std
        return sum_event(-0.5 * z * z - self.std.log(), self.event_dims) - self._log_norm(x)

    def kl(self, other: GaussianStep) -> Tensor:
        """KL(self || other) in closed form, summed over the event, shape (*batch,); the two means have one shape."""
        assert self.mean.shape == other.mean.shape, (self.mean.shape, other.mean.shape)
        self._refuse_noiseless("compare")
        other._refuse_noiseless("compare")
        ratio = (self.std / other.std) ** 2
        gap = ((self.mean - other.mean) / other.std) ** 2
        return 0.5 * sum_event(gap + ratio - 1 - ratio.log(), self.event_dims)

    def _log_norm(self, x: Tensor) -> float:
        return x.shape[-self.event_dims :].numel() * _LOG_SQRT_2PI

    def _refuse_noiseless(self, verb: str) -> None:
        if self.noiseless:
            raise ValueError(
                f"Cannot {verb} a denoising step whose std is 0: it is a point mass without a density. Give the "
                "step table noise in every step (final_std > 0 for the last one, eta > 0 for DDIM)."
            )
