r"""What a step table asks at every step: eps. The protocol of a denoiser, and the adapter that makes networks into one.

Letters: t a training level, fractions allowed; alpha_t, sigma_t, scale_t = sqrt(alpha_t^2 + sigma_t^2) of its schedule.
A *denoiser* takes x in the coordinates of the step table, x_t / scale_t, and answers eps. A *network* has been trained
elsewhere: it may take x_t itself, predict something else, and want one time for each sample of a flat batch. It says
so by attributes, all optional, and `as_denoiser` makes it a denoiser:

    prediction       what it predicts, a name in `PREDICTIONS`; "epsilon" where it does not say
    scaled_input     True: it takes x_t / scale_t and not x_t (the same on a variance preserving path)
    broadcasts_time  True: it takes x (*batch, *shape) and time that broadcasts to (*batch,), such as (K, 1) against
                     (K, B, *shape); else it is given x (N, *shape) and time (N,)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from diffusion_env.samplers.predictions import check_prediction, to_epsilon
from diffusion_env.samplers.schedules import NoiseSchedule


class Denoiser(Protocol):
    """Any callable with the event ``shape`` and the noise ``schedule`` it was trained on, in the table's coordinates.

    It may also have a method ``at_steps(x, times, k)``, see `ask_at_steps`, and methods ``level(time)`` and
    ``at_level(x, level)``, see `Levels`.
    """

    shape: tuple[int, ...]
    schedule: NoiseSchedule

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape) from x (*batch, *shape) and training levels ``time`` that broadcast to (*batch,)."""


def as_denoiser(network: Denoiser, device: torch.device | str = "cpu") -> Denoiser:
    """The network itself where it answers eps in the table's coordinates at any batch shape, else an `EpsDenoiser`.

    The network is not moved: ``device`` is where it and its inputs are.

    Raises ValueError where its ``prediction`` is unknown.
    """
    answers_eps = check_prediction(getattr(network, "prediction", "epsilon")) == "epsilon"
    takes_table_x = getattr(network, "scaled_input", False) or network.schedule.variance_preserving
    is_denoiser = answers_eps and takes_table_x and getattr(network, "broadcasts_time", False)
    return network if is_denoiser else EpsDenoiser(network, device)


def ask_at_steps(denoiser: Denoiser, x: Tensor, times: Tensor, k: Tensor) -> Tensor:
    """eps (B, *shape), sample b of ``x`` (B, *shape) asked at level times[k[b]]; ``times`` (K,), ``k`` (B,) integers.

    A denoiser with a method ``at_steps`` of the same arguments can embed each of the K levels once.
    """
    if hasattr(denoiser, "at_steps"):
        return cast(Tensor, denoiser.at_steps(x, times, k))
    return denoiser(x, times[k])


class Levels:
    """The training levels ``times`` (K,) that one denoiser is asked at again and again: each is prepared once.

    A denoiser with methods ``level(time)``, of one level, which depends on no weight that learns, and
    ``at_level(x, level)``, which answers as it does itself for x (*batch, *shape) at that level, is prepared. With a
    third one, ``embedded(level)``, the level with what the weights make of it, so is that, inside `unchanged`.
    """

    def __init__(self, times: Tensor) -> None:
        self.times = times
        self._asked: Denoiser | None = None
        self._prepared: dict[int, Any] = {}
        self._embedded: dict[int, Any] | None = None

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Inside, weights stay as they are: each level is embedded once, where no gradient is wanted."""
        self._embedded = {}
        try:
            yield
        finally:
            self._embedded = None

    def ask(self, denoiser: Denoiser, x: Tensor, k: int | Tensor) -> Tensor:
        """eps (*batch, *shape) of ``x`` (*batch, *shape) at times[k]; ``k`` an int or integers that broadcast to
        (*batch,), which are not prepared."""
        if not isinstance(k, int) or not hasattr(denoiser, "at_level"):
            return denoiser(x, self.times[k])
        if denoiser is not self._asked:
            self._asked, self._prepared = denoiser, {}
            self._embedded = None if self._embedded is None else {}
        prepares: Any = denoiser
        if k not in self._prepared:
            with torch.inference_mode(False), torch.no_grad():  # what is kept may be used in a training later
                self._prepared[k] = prepares.level(self.times[k])
        level = self._prepared[k]
        if self._embedded is not None and not torch.is_grad_enabled() and hasattr(denoiser, "embedded"):
            level = self._embedded[k] = self._embedded.get(k) or prepares.embedded(level)
        return cast(Tensor, prepares.at_level(x, level))


class PathAt(nn.Module):
    """A schedule at fractional levels, on the device of the module: log-SNR and log scale are linear between levels.

    Below level 1 and above T its values are those of 1 and T. It adds nothing to a state dict.
    """

    grid: Tensor
    log_scales: Tensor

    def __init__(self, schedule: NoiseSchedule, device: torch.device | str = "cpu") -> None:
        super().__init__()
        columns = {"grid": schedule.log_snr, "log_scales": np.log(schedule.scale[1:])}
        for name, column in columns.items():
            self.register_buffer(name, torch.tensor(column, dtype=torch.float32, device=device), persistent=False)

    def log_snr(self, time: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at levels ``time``, same shape."""
        return self._between(self.grid, time)

    def scale(self, time: Tensor) -> Tensor:
        """sqrt(alpha^2 + sigma^2) at levels ``time``, same shape."""
        return self._between(self.log_scales, time).exp()

    def _between(self, grid: Tensor, time: Tensor) -> Tensor:
        position = (time - 1).clamp(0, len(grid) - 1)
        low = position.floor().long()
        high = (low + 1).clamp(max=len(grid) - 1)
        return torch.lerp(grid[low], grid[high], position - low)


def unit_columns(log_snr: Tensor) -> tuple[Tensor, Tensor]:
    """alpha and sigma in the table's coordinates, where alpha^2 + sigma^2 = 1; each of the shape of ``log_snr``."""
    return log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()


class EpsDenoiser(nn.Module):
    """A denoiser made of any ``network``; see the top of this file for what the network may say of itself."""

    broadcasts_time = scaled_input = True

    def __init__(self, network: Denoiser, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.network, self.shape, self.schedule = network, tuple(network.shape), network.schedule
        self.path = PathAt(network.schedule, device)
        self.inner_prediction = check_prediction(getattr(network, "prediction", "epsilon"))
        self.rescales = not (getattr(network, "scaled_input", False) or network.schedule.variance_preserving)
        self.flattens = not getattr(network, "broadcasts_time", False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """eps (*batch, *shape) from x (*batch, *shape) in the table's coordinates; ``time`` broadcasts to (*batch,).

        Raises ValueError where the network's answer has another shape than what it was given.
        """
        event = (1,) * len(self.shape)
        per_sample = time.reshape(time.shape + event)  # broadcasts against x
        given = x * self.path.scale(per_sample) if self.rescales else x
        if self.flattens:
            time = time.expand(x.shape[: x.ndim - len(self.shape)]).reshape(-1)
            given = given.reshape(-1, *self.shape)
        answer = self.network(given, time)
        if answer.shape != given.shape:
            raise ValueError(
                f"{type(self.network).__name__} answered shape {tuple(answer.shape)} for x of shape "
                f"{tuple(given.shape)} and time of shape {tuple(time.shape)}. Its answer must have the shape of x."
            )
        answer = answer.reshape(x.shape)
        return to_epsilon(self.inner_prediction, answer, x, *unit_columns(self.path.log_snr(per_sample)))
