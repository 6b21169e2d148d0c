"""What a step table asks at every step: the protocol of a denoiser."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from diffusion_env.samplers.schedules import NoiseSchedule


class Denoiser(Protocol):
    """Any callable with the event ``shape`` and the noise ``schedule`` it was trained on."""

    shape: tuple[int, ...]
    schedule: NoiseSchedule

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape) from x (*batch, *shape) and training levels ``time`` that broadcast to (*batch,)."""
