"""What the critics with a trained network share: one Adam step on the IPM loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from diffusion_env.checkpoints import load_optimizer
from diffusion_env.critics.base import Critic, Penalty
from diffusion_env.networks.bodies import body_name, make_body
from diffusion_env.networks.layers import Activation, Fourier, silu
from diffusion_env.seeds import stream

PIECE = 1024
"""Events that are scored at once on a CPU where no gradient is wanted: the activations of more do not fit its cache."""


class TrainedCritic(Critic):
    """A regulariser on a body: a network f, trained to minimise

        mean f(fake) - mean f(real) + regulariser + penalty(f(fake))
            + slope_penalty * (mean |grad f(real)|^2 + mean |grad f(fake)|^2).

    A final class writes `regulariser`, or `project`, and may choose the activation, Fourier features and a slope
    penalty. It does not depend on the layers of the body: see `make_body`. The optimiser is part of `state_dict`, so
    resuming is exact.
    """

    in_step = True
    activation: Activation = staticmethod(silu)
    slope_penalty: float = 0.0
    adam_betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    fourier: Fourier | None = None

    def __init__(
        self,
        shape: Sequence[int],
        seed: int,
        width: int,
        depth: int,
        learning_rate: float,
        body: str | None,
        own: dict[str, Any],
    ) -> None:
        """A body of ``depth`` hidden layers with ``width`` units, chosen by shape where ``body`` is None; ``own``: the
        final class's hyper-parameters, JSON."""
        super().__init__(shape)
        assert self.shape is not None
        self.body = body_name(self.shape, body)
        sizes = {"width": width, "depth": depth, "learning_rate": learning_rate, "body": self.body}
        self.config = {"shape": list(self.shape), "seed": seed, **sizes, **own}
        self.width, self.depth, self.learning_rate = width, depth, learning_rate
        self.network = self.build_network(stream(seed, "critic"))
        self.optimizer = self.new_optimizer(self.network)

    def build_network(self, generator: torch.Generator) -> nn.Module:
        """The network (*batch, *shape) -> (*batch, 1), initialised from a CPU generator."""
        assert self.shape is not None
        sizes: dict[str, Any] = {"body": self.body, "width": self.width, "depth": self.depth}
        return make_body(self.shape, 1, generator, **sizes, activation=self.activation, fourier=self.fourier)

    def new_optimizer(self, network: nn.Module) -> torch.optim.Adam:
        """Adam at the configured learning rate, without moments."""
        return torch.optim.Adam(network.parameters(), lr=self.learning_rate, betas=self.adam_betas, fused=True)

    @property
    def compiled_part(self) -> nn.Module | None:
        """The network."""
        return self.network

    def forward(self, x: Tensor) -> Tensor:
        """The network's scores (*batch,) of events x (*batch, *shape)."""
        assert self.shape is not None
        self.check_events(x, "events")
        one_batch = x.ndim == len(self.shape) + 1
        if torch.is_grad_enabled() or x.device.type != "cpu" or not one_batch or len(x) <= PIECE:
            scores: Tensor = self.network(x)
        else:
            scores = torch.cat([self.network(piece) for piece in x.split(PIECE)])
        return scores.squeeze(-1)

    def regulariser(self, real: Tensor, fake: Tensor, f_real: Tensor, f_fake: Tensor) -> Tensor:
        """Scalar of the batches (N, *shape), (M, *shape) and their scores (N,), (M,), added to the loss."""
        return f_real.new_zeros(())

    def project(self) -> None:
        """Move the weights back into the allowed set after a step."""

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """As `Critic.update`, on (N, *shape) and (M, *shape); also returns `regulariser`, and `penalty` if passed.

        Raises FloatingPointError, and makes no step, when a term is not finite.
        """
        self.check_batch(real, "real batch")
        self.check_batch(fake, "fake batch")
        # A rollout may call this from no_grad or inference_mode, where no gradient could be taken.
        with torch.inference_mode(False), torch.enable_grad():
            terms = self.loss_terms(torch.cat([real, fake]).detach(), len(real), penalty)
            self.optimizer.zero_grad()
            weights = list(self.network.parameters())
            # `inputs` keeps the gradient out of whatever else the penalty was made from.
            terms["critic_loss"].backward(inputs=weights)
            self.shard.reduce_gradients(weights)
            terms["grad_norm"] = nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
            metrics = dict(zip(terms, self.shard.mean(torch.stack(list(terms.values()))).tolist(), strict=True))
            self.check_finite(metrics)
            self.optimizer.step()
            self.project()
        return metrics

    def loss_terms(self, both: Tensor, num_real: int, penalty: Penalty | None = None) -> dict[str, Tensor]:
        """``critic_loss``, which is minimised, and its parts, each 0-d, on ``both`` batches (N + M, *shape).

        The first ``num_real`` events are real.
        """
        parts = [num_real, len(both) - num_real]
        if self.slope_penalty > 0:
            pulled: Any = torch.func.vjp(self, both)  # not autograd.grad, which vmap does not understand
            scores, slopes_of = pulled
        else:
            scores = self(both)
        f_real, f_fake = scores.split(parts)
        ipm = f_real.mean() - f_fake.mean()
        regulariser = self.regulariser(both[:num_real], both[num_real:], f_real, f_fake)
        if self.slope_penalty > 0:
            (slopes,) = slopes_of(torch.ones_like(scores))
            real, fake = slopes.square().flatten(1).sum(-1).split(parts)
            regulariser = regulariser + self.slope_penalty * (real.mean() + fake.mean())
        terms = {"critic_loss": regulariser - ipm, "ipm": ipm, "regulariser": regulariser}
        if penalty is not None:
            terms["penalty"] = _scalar(penalty(f_fake))
            terms["critic_loss"] = terms["critic_loss"] + terms["penalty"]
        return terms

    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """Every optimiser by the name it has in the state dict."""
        return {"critic": self.optimizer}

    def set_learning_rate(self, learning_rate: float) -> None:
        """Step size of every optimiser from the next update on."""
        for optimizer in self.optimizers().values():
            for group in optimizer.param_groups:
                group["lr"] = learning_rate

    def reset(self, generator: torch.Generator) -> None:
        """New weights from a CPU generator and a new optimiser, at the configured learning rate."""
        # Copied into the existing parameters, so that whoever holds them sees the new weights.
        self.network.load_state_dict(self.build_network(generator).state_dict())
        self.optimizer = self.new_optimizer(self.network)

    def get_extra_state(self) -> dict[str, Any]:
        """What the state dict holds beside the weights."""
        return {"optimizers": {name: adam.state_dict() for name, adam in self.optimizers().items()}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Inverse of `get_extra_state`."""
        for name, optimizer in self.optimizers().items():
            load_optimizer(optimizer, state["optimizers"][name], f"The saved optimiser {name!r}")

    def _apply(self, fn: Any, recurse: bool = True) -> TrainedCritic:
        # Module.to moves the weights only; loading its own state moves an optimiser's moments beside them.
        super()._apply(fn, recurse)
        for optimizer in self.optimizers().values():
            optimizer.load_state_dict(optimizer.state_dict())
        return self


def seed_from(generator: torch.Generator) -> int:
    """A seed for another generator, drawn from a CPU generator."""
    return int(torch.randint(2**62, (), generator=generator))


def _scalar(penalty: Tensor) -> Tensor:
    if penalty.ndim != 0:
        raise ValueError(
            f"A critic's penalty returned a tensor of shape {tuple(penalty.shape)}, but it must return a "
            "scalar that can be added to the loss. Take the mean over the batch inside the penalty."
        )
    return penalty
