r"""DDPM pretraining of a denoiser, with an exponential moving average of its weights.

Letters: t ~ uniform on 1 ... T; a = alpha_bar_t; x_t = sqrt(a) x_0 + sqrt(1 - a) eps; the loss is the squared error
of v = sqrt(a) eps - sqrt(1 - a) x_0, which is Ho et al.'s (2020, eq. 14) squared error of eps divided by a
(Salimans & Ho 2022, section 4, "SNR + 1" weighting): few-step samplers live off the noisy levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diffusion_env.config import PretrainConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.law import sum_event
from diffusion_env.samplers.schedules import make_schedule


def diffuse(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) eps (Ho et al. 2020, eq. 4); ``alpha_bar`` broadcasts against ``x0``."""
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def denoising_loss(denoiser: Denoiser, x0: Tensor, time: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """Mean squared error of v per component; ``time`` and ``alpha_bar`` (B,), ``x0`` and ``eps`` (B, *shape)."""
    event_dims = len(denoiser.shape)
    x_t = diffuse(x0, eps, alpha_bar.reshape(alpha_bar.shape + (1,) * event_dims))
    eps_error = sum_event((denoiser(x_t, time) - eps) ** 2, event_dims)
    return (eps_error / alpha_bar).mean() / x0[0].numel()


def pretrain(
    dataset: Dataset, config: PretrainConfig, on_update: Callable[[int, Tensor], None] | None = None
) -> EpsMLP:
    """Train an `EpsMLP` on ``dataset`` and return its averaged weights, frozen.

    ``on_update(i, loss)`` is called after every optimizer step. Raises FloatingPointError when the loss is no longer
    finite (checked every 100 updates and at the end).
    """
    schedule = make_schedule(config.schedule, config.num_levels)
    generator = torch.Generator().manual_seed(config.seed)
    network = EpsMLP(dataset.shape, schedule, config.width, config.depth, generator).to(config.device)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_updates)
    draws = torch.Generator(config.device).manual_seed(config.seed)
    alpha_bar = torch.tensor(schedule.alpha_bar, dtype=torch.float32, device=config.device)
    data = dataset.to(config.device)
    for i in range(config.num_updates):
        x0 = data.sample(config.batch_size, draws)
        t = torch.randint(1, config.num_levels + 1, (len(x0),), generator=draws, device=config.device)
        eps = torch.randn(x0.shape, generator=draws, device=config.device)
        loss = denoising_loss(network, x0, t.float(), eps, alpha_bar[t])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        average.update_parameters(network)
        if i % 100 == 0 or i == config.num_updates - 1:
            _refuse_non_finite(loss, i)
        if on_update is not None:
            on_update(i, loss.detach())
    return cast(EpsMLP, average.module).requires_grad_(False)


def _refuse_non_finite(loss: Tensor, update: int) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The pretraining loss became {loss.item()} at update {update}. Lower learning_rate, or look for extreme "
            "values in the data."
        )
