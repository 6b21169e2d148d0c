"""The critic of SFT-PG (B): the value regression's gradient also reaches the critic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from diffusion_env.critics.base import Penalty
from diffusion_env.critics.trained import TrainedCritic
from diffusion_env.fields import Count, Weight
from diffusion_env.networks.bodies import make_conditioned_body
from diffusion_env.networks.layers import Conditioned
from diffusion_env.seeds import stream

TIME_FEATURES = 8


class BaselineCritic(TrainedCritic):
    """No regulariser of its own; bounded by the penalty value_weight * mean (V(x[k], k) - f(x_0))^2.

    Fan & Lee, "Optimizing DDPM Sampling with Shortcut Fine-Tuning", ICML 2023, Algorithm 1, variant (B).
    Since V regresses f, this penalises the variance of f over samples that x[k] does not explain. It
    bounds f on samples only, and no slope: `lipschitz` may grow without end, as it does in the official code.

    An agent with a value function passes its own penalty to `update`. Without one, `trajectory_penalty` fits
    the value network kept here, V(x, k) with the step seen as k / K, and gives the penalty.
    """

    name = "baseline"
    wants_trajectory = True
    wants_value_penalty = True

    def __init__(
        self,
        shape: Sequence[int],
        seed: int = 0,
        value_weight: Weight = 1.0,
        width: Count = 256,
        depth: Count = 2,
        learning_rate: Weight = 1e-3,
        body: str | None = None,
    ) -> None:
        super().__init__(shape, seed, width, depth, learning_rate, body, {"value_weight": value_weight})
        self.value_weight = value_weight
        generator = stream(seed, "critic")
        self.value = self.build_value(generator)
        self.reset(generator)

    def build_value(self, generator: torch.Generator) -> Conditioned:
        """The value network on the same body, (*batch, *shape) and (*c, TIME_FEATURES) -> (*batch, 1), initialised
        from a CPU generator."""
        assert self.shape is not None
        sizes: dict[str, Any] = {"body": self.body, "width": self.width, "depth": self.depth}
        return make_conditioned_body(self.shape, 1, TIME_FEATURES, generator, **sizes)

    def reset(self, generator: torch.Generator) -> None:
        """New weights of critic and value network, new optimisers."""
        super().reset(generator)
        self.value.load_state_dict(self.build_value(generator).state_dict())
        self.value_optimizer = self.new_optimizer(self.value)

    def optimizers(self) -> dict[str, torch.optim.Adam]:
        """The optimisers of critic and value network."""
        return super().optimizers() | {"value": self.value_optimizer}

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """As `Critic.update`, on (N, *shape) and (M, *shape), but the penalty is required: ValueError without one."""
        if penalty is None:
            raise ValueError(
                "The critic 'baseline' was updated without a penalty, but the penalty is its only "
                "regulariser and its scores would grow without bound. Pass "
                "penalty=critic.trajectory_penalty(xs), where xs are the states (K + 1, B, *shape) whose "
                "last is the fake batch, or the value loss of your agent as a function of the scores of the "
                "fake batch."
            )
        return super().update(real, fake, penalty)

    def trajectory_penalty(self, xs: Tensor) -> Penalty:
        """One step of V towards f(xs[-1]) on the states xs (K + 1, B, *shape), K >= 1, and the penalty for
        them.

        The penalty uses the values from before that step: critic and V descend on the same loss.
        """
        self._check_states(xs)
        with torch.inference_mode(False), torch.enable_grad():
            xs = xs.detach().clone()
            values = self._values(xs[:-1])
            self._fit_value(values, self(xs[-1]).detach())
        return self._penalty_from(values.detach())

    def _values(self, states: Tensor) -> Tensor:
        """V (K, B) of the states x[0] ... x[K-1] in (K, B, *shape)."""
        time = torch.arange(len(states), device=states.device) / len(states)
        frequencies = math.pi * torch.arange(TIME_FEATURES, device=states.device)
        features = torch.cos(time[:, None, None] * frequencies)  # (K, 1, TIME_FEATURES)
        values: Tensor = self.value(states, features)
        return values.squeeze(-1)

    def _fit_value(self, values: Tensor, scores: Tensor) -> None:
        self.value_optimizer.zero_grad()
        nn.functional.mse_loss(values, scores.expand_as(values)).backward()
        self.value_optimizer.step()

    def _penalty_from(self, values: Tensor) -> Penalty:
        def penalty(scores: Tensor) -> Tensor:
            if scores.shape != values.shape[1:]:
                raise ValueError(
                    f"The penalty of 'baseline' was made from trajectories that end in {values.shape[1]} "
                    f"samples, but the fake batch has {len(scores)} events. The fake batch must be the last "
                    "state of the same trajectories, in the same order: update(real, xs[-1], "
                    "trajectory_penalty(xs))."
                )
            return self.value_weight * (values - scores).square().mean()

        return penalty

    def _check_states(self, xs: Tensor) -> None:
        self.check_events(xs, "trajectories")
        assert self.shape is not None
        if xs.ndim != len(self.shape) + 2 or len(xs) < 2:
            raise ValueError(
                f"The critic 'baseline' received trajectories of shape {tuple(xs.shape)}, but it takes (K + "
                f"1, B, {', '.join(map(str, self.shape))}) with K >= 1: every state of B episodes, from the "
                "start noise to the finished samples. Stack them along a new first dimension."
            )
