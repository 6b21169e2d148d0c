"""Three critics for Wasserstein-1, the IPM of the 1-Lipschitz functions: three ways to bound the slope."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_env.critics.trained import TrainedCritic, seed_from
from diffusion_env.fields import Depth, Positive, Weight, Width
from diffusion_env.networks.layers import MaxMin
from diffusion_env.networks.spectral import bound_slope, iterate_norms
from diffusion_env.seeds import stream


class GradientPenaltyCritic(TrainedCritic):
    """regulariser = gradient_weight * mean max(0, |grad f(x)| - 1)^2 on random points between real and fake
    events.

    Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, in the one-sided form of Petzka
    et al., "On the regularization of Wasserstein GANs", ICLR 2018: a slope below 1 costs nothing. A soft
    bound: read the slope that was reached from `lipschitz`.
    """

    name = "gradient_penalty"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        gradient_weight: Weight = 10.0,
        width: Width = 256,
        depth: Depth = 2,
        learning_rate: Weight = 1e-3,
        body: str | None = None,
    ) -> None:
        super().__init__(shape, seed, width, depth, learning_rate, body, {"gradient_weight": gradient_weight})
        self.gradient_weight = gradient_weight
        self.generator = stream(seed, "critic draws")

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """The gradient penalty, a scalar, at one random point between each pair of events (N, *shape)."""
        # Real and fake are independent draws, so pairing them in order, the longer one cut, is a random
        # pairing.
        n = min(len(real), len(fake))
        share = (
            self.shard.own(torch.rand(n * self.shard.size, generator=self.generator))
            .to(real.device)
            .view(n, *[1] * (real.ndim - 1))
        )
        between = torch.lerp(real[:n], fake[:n], share).requires_grad_()
        (gradient,) = torch.autograd.grad(self(between).sum(), between, create_graph=True)
        excess = (gradient.flatten(1).norm(dim=1) - 1).clamp_min(0)
        return self.gradient_weight * excess.square().mean()

    @property
    def compiled_part(self) -> None:
        """None: the penalty is differentiated twice, which compiled code cannot be."""
        return None

    def reset(self, generator: torch.Generator) -> None:
        """As `TrainedCritic.reset`, and a new stream of random points."""
        super().reset(generator)
        self.generator.manual_seed(seed_from(generator))

    def get_extra_state(self) -> dict[str, Any]:
        """Optimiser and the stream of random points."""
        return super().get_extra_state() | {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Inverse of `get_extra_state`."""
        super().set_extra_state(state)
        self.generator.set_state(state["generator"].cpu())


class SpectralNormCritic(TrainedCritic):
    """Every layer divided by its norm as a linear operator, so that f is 1-Lipschitz by construction.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", ICLR 2018; for convolutions see
    `diffusion_env.networks.spectral`. The norms are estimated by power iterations, a few per update, so the bound
    holds up to the error of that estimate; scoring iterates nothing and is a pure function. `width` must be even (see
    `MaxMin`).
    """

    name = "spectral_norm"
    activation = MaxMin

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        width: Width = 256,
        depth: Depth = 2,
        learning_rate: Weight = 1e-3,
        body: str | None = None,
    ) -> None:
        if width % 2:
            raise ValueError(
                f"The critic 'spectral_norm' was given width {width}, but its activation sorts features in "
                "pairs, so the width must be even. Add one."
            )
        super().__init__(shape, seed, width, depth, learning_rate, body, {})

    def build_network(self, generator: torch.Generator) -> nn.Module:
        """The network with every layer parametrised by its spectral norm."""
        network = super().build_network(generator)
        bound_slope(network, seed_from(generator))
        return network

    def project(self) -> None:
        """Power iterations in every layer, on the weights after the step."""
        iterate_norms(self.network)

    def train(self, mode: bool = True) -> SpectralNormCritic:
        """As `nn.Module.train`, but the network stays as it is: see `project`."""
        super().train(mode)
        self.network.eval()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # torch refuses to pickle a parametrised module.
        return _rebuild_spectral_norm, (self.config, self.state_dict())


class WeightClippingCritic(TrainedCritic):
    """Every weight kept in [-clip, clip]: Lipschitz with a constant set by `clip`, `width` and `depth`, not
    by 1.

    Arjovsky et al., "Wasserstein GAN", ICML 2017. The distance is W1 up to that constant, so compare only distances
    that were measured with equal settings. The paper's clip of 0.01 belongs to its convolutions; with two hidden layers
    of 256 units on points it leaves slopes of about 0.02, and the default here slopes of order 1.
    """

    name = "weight_clipping"

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        clip: Positive = 0.04,
        width: Width = 256,
        depth: Depth = 2,
        learning_rate: Weight = 1e-3,
        body: str | None = None,
    ) -> None:
        self.clip = clip
        super().__init__(shape, seed, width, depth, learning_rate, body, {"clip": clip})

    def build_network(self, generator: torch.Generator) -> nn.Module:
        """The network with its initial weights clipped."""
        network = super().build_network(generator)
        _clip(network, self.clip)
        return network

    def project(self) -> None:
        """Clip every weight."""
        _clip(self.network, self.clip)


@torch.no_grad()
def _clip(network: nn.Module, bound: float) -> None:
    for weight in network.parameters():
        weight.clamp_(-bound, bound)


def _rebuild_spectral_norm(config: dict[str, Any], state: dict[str, Any]) -> SpectralNormCritic:
    critic = SpectralNormCritic(**config)
    critic.load_state_dict(state)
    return critic
