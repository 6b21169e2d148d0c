"""Metrics that cost something and are computed only when they are logged; they change neither weights nor draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from agents.core.losses import mean_difference_z
from agents.core.policy import DenoisingPolicy, all_steps
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.samplers.law import GaussianStep
from diffusion_env.seeds import stream

HELD_OUT = 1024
"""The least number of data points, training and held-out, on which the critic's overfitting is measured; where fewer
are held out, all of those."""


@torch.no_grad()
def kl_to_pretrained(policy: DenoisingPolicy, pretrained: DenoisingPolicy, xs: Tensor) -> dict[str, float]:
    """Mean KL in nats from the pretrained step's law at the states xs (K + 1, B, *shape): per step, and their sum.

    Empty where a step has no noise: there is no KL between point masses.
    """
    if policy.noiseless_steps:
        return {}
    counted = policy.num_evaluations, pretrained.num_evaluations
    k = all_steps(len(xs) - 1, xs.device)
    kl = policy(xs[:-1], k).kl(pretrained(xs[:-1], k)).mean(-1)  # (K,)
    policy.num_evaluations, pretrained.num_evaluations = counted  # a measurement is not training
    per_step = {f"kl_to_pretrained/step_{step:04d}": value for step, value in enumerate(kl.tolist())}
    return {**per_step, "train/kl_to_pretrained": float(kl.sum())}


def has_gradient(score: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether the scores (n,) of the events ``x`` (n, *shape) have a gradient with respect to them."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(score(x).sum(), x, allow_unused=True)
        except RuntimeError:  # of autograd: nothing requires a gradient, or numpy was asked for one
            gradient = None
    return gradient is not None


def refuse_without_gradient(critic: Critic, x: Tensor, who: str) -> None:
    """ValueError, for the algorithm called ``who``, where the scores of the events ``x`` (n, *shape) have no gradient
    with respect to them."""
    if not has_gradient(critic, x):
        raise ValueError(
            f"{who} follows the gradient of the reward, and autograd finds none through the critic {critic.name!r}. "
            "Write the reward in operations of torch that have a gradient (no detach, no numpy, no comparisons), or "
            "take an algorithm that needs none, such as sft_pg."
        )


@torch.no_grad()
def exploration(policy: DenoisingPolicy) -> dict[str, float]:
    """Mean std of the steps, network units, and minus their mean entropy in nats, under stable-baselines3's names.

    No entropy where a step has no noise.
    """
    std = policy.sampling_table.std
    found = {"train/std": float(std.mean())}
    if not policy.noiseless_steps:
        mean = torch.zeros(len(std), *policy.shape, device=std.device)
        law = GaussianStep(mean, std.reshape(-1, *[1] * len(policy.shape)), len(policy.shape))
        found["train/entropy_loss"] = -float(law.entropy().mean())
    return found


@torch.no_grad()
def critic_diagnostics(critic: Critic, data: Dataset, x0: Tensor, seed: int, iteration: int) -> dict[str, float]:
    """The critic on data that it never saw, against samples ``x0`` (B, *shape), and its slope; ``seed`` and
    ``iteration`` draw the data.

    gap_held_out: mean f(held-out data) - mean f(x0). overfit_z: f on training data above held-out data, in standard
    errors. lipschitz: the largest measured slope of f.
    """
    draws = stream(seed, "logging", x0.device, iteration)
    size = min(max(len(x0), HELD_OUT), len(data.held_out))
    held_out, seen = (data.sample(size, draws, held_out=held) for held in (True, False))
    return {
        "critic/gap_held_out": critic.distance(held_out, x0),
        "critic/overfit_z": mean_difference_z(critic(seen), critic(held_out)),
        "critic/lipschitz": critic.lipschitz(held_out),
    }


def weights_without_gradient(optimizer: torch.optim.Adam) -> int:
    """How many of the optimizer's weight tensors never received a gradient that is not 0.

    Adam's mean squared gradient is read, not the last gradient: that one is 0 in a step where every ratio was clipped.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    squares = [optimizer.state.get(weight, {}).get("exp_avg_sq") for weight in weights]
    return len(squares) - int(torch.stack([square.any() for square in squares if square is not None]).sum())
