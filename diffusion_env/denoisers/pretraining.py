r"""Pretraining of a denoiser of any kind, with an exponential moving average of its weights.

Letters: t ~ uniform on 1 ... T; a = alpha_bar_t; x_t = sqrt(a) x_0 + sqrt(1 - a) eps, which is x_t of any path in the
coordinates of the step table. The loss is the squared error of what the network's layers put out. By default that is
v = sqrt(a) eps - sqrt(1 - a) x_0: Ho et al.'s (2020, eq. 14) squared error of eps divided by a (Salimans & Ho 2022,
section 4, "SNR + 1" weighting), because few-step samplers depend on the noisy levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from diffusion_env.config import PretrainConfig
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.loading import denoiser_class
from diffusion_env.samplers.denoiser import Denoiser, as_denoiser
from diffusion_env.samplers.law import sum_event
from diffusion_env.samplers.predictions import squared_slope
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.seeds import stream


def diffuse(x0: Tensor, eps: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = sqrt(a) x_0 + sqrt(1 - a) eps (Ho et al. 2020, eq. 4), (*batch, *shape) as ``x0`` and ``eps``.

    ``alpha_bar`` broadcasts against ``x0``.
    """
    assert x0.shape == eps.shape, (x0.shape, eps.shape)
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def denoising_loss(
    denoiser: Denoiser, x0: Tensor, time: Tensor, eps: Tensor, alpha_bar: Tensor, output: str = "v_prediction"
) -> Tensor:
    """Mean squared error of ``output`` per component, shape (); ``output`` is a name in `PREDICTIONS`.

    ``x0`` and ``eps``: (B, *shape); ``time`` and ``alpha_bar``: (B,), the levels and alpha_bar there.
    """
    assert time.shape == alpha_bar.shape == x0.shape[:1], (time.shape, alpha_bar.shape, x0.shape)
    event_dims = len(denoiser.shape)
    x_t = diffuse(x0, eps, alpha_bar.reshape(alpha_bar.shape + (1,) * event_dims))
    eps_error = sum_event((denoiser(x_t, time) - eps) ** 2, event_dims)
    return (eps_error / squared_slope(output, alpha_bar)).mean() / x0[0].numel()


def pretrain(
    dataset: Dataset, config: PretrainConfig, on_update: Callable[[int, Tensor], None] | None = None
) -> NetworkDenoiser:
    """Train a network of ``config.kind`` on ``dataset`` and return its averaged weights, frozen.

    ``on_update(i, loss)`` is called after every optimizer step with the loss, shape ().

    Raises ValueError for an unknown kind, schedule or prediction, FloatingPointError when the loss is no longer finite
    (checked every 100 updates and at the end).
    """
    schedule = make_schedule(config.schedule, config.num_levels)
    generator = stream(config.seed, "pretraining weights")
    kind = denoiser_class(config.kind)
    width, depth = kind.default_size(dataset.shape)
    size = (config.width or width, config.depth or depth)
    network = kind(dataset.shape, schedule, *size, generator, config.prediction)
    denoiser = as_denoiser(network.to(config.device), config.device)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    optimizer = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.num_updates)
    draws = stream(config.seed, "pretraining batches", config.device)
    alpha_bar = torch.tensor(schedule.alpha_bar, dtype=torch.float32, device=config.device)
    data = dataset.to(config.device)
    for i in range(config.num_updates):
        x0 = data.sample(config.batch_size, draws)
        t = torch.randint(1, config.num_levels + 1, (len(x0),), generator=draws, device=config.device)
        eps = torch.randn(x0.shape, generator=draws, device=config.device)
        loss = denoising_loss(denoiser, x0, t.float(), eps, alpha_bar[t], network.output)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        average.update_parameters(network)
        if i % 100 == 0 or i == config.num_updates - 1:
            _refuse_non_finite(loss, i)
        if on_update is not None:
            on_update(i, loss.detach())
    return cast(NetworkDenoiser, average.module).requires_grad_(False)


def _refuse_non_finite(loss: Tensor, update: int) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The pretraining loss became {loss.item()} at update {update}. Lower learning_rate, or look for extreme "
            "values in the data."
        )
