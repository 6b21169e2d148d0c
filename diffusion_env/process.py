r"""The denoising MDP as plain batched tensors: the core that every shell of the environment shares.

Letters: B particles (environments), K steps, k[i] the steps particle i has done, x its state, x_0 = x[K] the finished
sample, f the critic. The reward of the last step is f(x_0) - mean f(data), 0 before it: the mean return is minus the
critic's estimate of the IPM between data and sampler (Fan & Lee 2023, section 4).

Which particles are where is known on the host (``k``), so no step has to ask the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.datasets import Dataset
from diffusion_env.denoisers import Denoiser
from diffusion_env.tables import StepTable

ActionMode = Literal["step", "residual"]
CRITIC_BATCH = 128
"""The least number of finished samples in one critic update; smaller environments collect that many first."""


@dataclass(frozen=True)
class Outcome:
    """What one step did. ``finished`` lives on the host; scores and rewards are 0 where nothing finished."""

    x: Tensor  # (B, *shape) after the step, before any reset
    reward: Tensor  # (B,)
    critic_score: Tensor  # (B,) f(x_0)
    data_score: Tensor  # () mean of f over a data batch
    finished: NDArray[np.bool_]  # (B,)


class DenoisingProcess:
    """B particles walking one step table under given actions."""

    def __init__(
        self,
        dataset: Dataset,
        table: StepTable,
        critic: Critic,
        num_envs: int,
        action_mode: ActionMode = "step",
        denoiser: Denoiser | None = None,
        train_critic: bool = True,
        owns_critic: bool = False,
    ) -> None:
        """``owns_critic``: a new seed also starts the critic anew. The device is the data set's."""
        _check_arguments(num_envs, action_mode, denoiser)
        self.dataset, self.critic, self.denoiser = dataset, critic, denoiser
        self.device = dataset.device
        self.table = table.to(self.device)
        self.num_envs, self.action_mode = num_envs, action_mode
        self.train_critic, self._owns_critic = train_critic, owns_critic
        self.generator = torch.Generator(self.device)
        self.critic_metrics: dict[str, float] = {}
        self.k: NDArray[np.int64] = np.zeros(num_envs, np.int64)
        self.x = torch.zeros(num_envs, *dataset.shape, device=self.device)
        self._path: list[Tensor] = []
        self._finished_paths: list[Tensor] = []
        self._all_finite = torch.ones((), dtype=torch.bool, device=self.device)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one particle."""
        return self.dataset.shape

    def seed(self, seed: int) -> None:
        """Fix every draw from here on: start noise, data batches and, if the process owns it, the critic's weights."""
        self.generator.manual_seed(seed)
        self._finished_paths = []
        if self._owns_critic:
            self.critic.reset(torch.Generator().manual_seed(seed))

    def reset(self, mask: NDArray[np.bool_] | None = None) -> Tensor:
        """Start all particles, or those in ``mask`` (B,), at x[0] ~ N(0, I); returns x (B, *shape)."""
        start = torch.randn(self.x.shape, generator=self.generator, device=self.device)
        if mask is None or mask.all():
            self.k, self.x, self._path = np.zeros(self.num_envs, np.int64), start, [start]
        else:
            self.k = np.where(mask, 0, self.k)
            self.x = torch.where(self._event_mask(mask), start, self.x)
            self._path = []  # out of phase: there is no common trajectory
        return self.x

    def step(self, action: Tensor, active: NDArray[np.bool_] | None = None) -> Outcome:
        """One denoising step of all particles, or of the ``active`` ones (B,), under ``action`` (B, *shape)."""
        self._check_action(action)
        k = self._rows(active)
        x = self._move(k, action)
        if active is not None and not active.all():
            x = torch.where(self._event_mask(active), x, self.x)
        self.x = x
        self.k = self.k + (1 if active is None else active)
        finished = (self.k == self.table.num_steps) & (True if active is None else active)
        if self._path:
            self._path.append(x)
        return self._finish(finished) if finished.any() else self._no_reward(finished)

    def _rows(self, active: NDArray[np.bool_] | None) -> int | Tensor:
        first = int(self.k[0])
        if active is None and bool((self.k == first).all()):
            return first  # the common case: one row for all, no gather
        return torch.from_numpy(np.minimum(self.k, self.table.num_steps - 1)).to(self.device)

    def _move(self, k: int | Tensor, action: Tensor) -> Tensor:
        event_dims = len(self.shape)
        row = self.table.rows(k, event_dims)
        if self.action_mode == "step":
            return torch.addcmul(row.x_coef * self.x, (row.eps_coef**2 + row.std**2).sqrt(), action)
        assert self.denoiser is not None
        with torch.no_grad():
            eps = self.denoiser(self.x, self.table.time[k])
        return torch.addcmul(self.table.law(k, self.x, eps, event_dims).mean, row.std, action)

    def _no_reward(self, finished: NDArray[np.bool_]) -> Outcome:
        zeros = torch.zeros(self.num_envs, device=self.device)
        return Outcome(self.x, zeros, zeros, zeros.new_zeros(()), finished)

    @torch.no_grad()
    def _finish(self, finished: NDArray[np.bool_]) -> Outcome:
        self._raise_if_action_was_not_finite()
        if self.train_critic:
            self._collect(finished)
        score = self.critic(self.x)
        data_score = self.critic(self.data_batch()).mean()
        mask = torch.from_numpy(finished).to(self.device)
        score, reward = score * mask, (score - data_score) * mask
        return Outcome(self.x, reward, score, data_score, finished)

    def _collect(self, finished: NDArray[np.bool_]) -> None:
        """Keep the finished samples; with `CRITIC_BATCH` of them, train the critic once on all."""
        in_phase = len(self._path) == self.table.num_steps + 1
        if self.critic.wants_trajectory and not in_phase:
            raise RuntimeError(
                f"The critic {self.critic.name!r} fits a value network on whole trajectories, so all particles must "
                "start together; reset them all at once, or pick another critic."
            )
        path = torch.stack(self._path) if self.critic.wants_trajectory else self.x[None]  # (K + 1 or 1, B, *shape)
        self._finished_paths.append(path[:, torch.from_numpy(finished).to(self.device)] if not finished.all() else path)
        paths = torch.cat(self._finished_paths, dim=1)
        if paths.shape[1] >= CRITIC_BATCH:
            self.update_critic(paths[-1], self.critic.trajectory_penalty(paths))
            self._finished_paths = []

    def data_batch(self) -> Tensor:
        """A fresh batch of training data (max(B, CRITIC_BATCH), *shape)."""
        return self.dataset.sample(max(self.num_envs, CRITIC_BATCH), self.generator)

    def update_critic(self, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """One critic step on samples ``fake`` (M, *shape) against a fresh data batch; returns the critic's metrics."""
        self.critic_metrics = self.critic.update(self.data_batch(), fake, penalty)
        return self.critic_metrics

    def _event_mask(self, mask: NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(mask).to(self.device).reshape(-1, *[1] * len(self.shape))

    def _check_action(self, action: Tensor) -> None:
        if tuple(action.shape) != (self.num_envs, *self.shape):
            raise ValueError(
                f"The action must have shape {(self.num_envs, *self.shape)} (num_envs, *shape); received "
                f"{tuple(action.shape)}."
            )
        if action.dtype != torch.float32:
            raise TypeError(f"The action must be float32; received {action.dtype}. Convert it first.")
        self._all_finite = self._all_finite & action.isfinite().all()
        if self.device.type == "cpu":  # elsewhere looking would wait for the device: done once, at the episode's end
            self._raise_if_action_was_not_finite()

    def _raise_if_action_was_not_finite(self) -> None:
        if not self._all_finite:
            self._all_finite = torch.ones_like(self._all_finite)
            raise ValueError(
                "An action held NaN or infinity; every component must be finite. The policy that produced it has most "
                "likely diverged: lower its learning rate or clip its gradient."
            )


def _check_arguments(num_envs: int, action_mode: str, denoiser: Denoiser | None) -> None:
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1; received {num_envs}.")
    if action_mode not in get_args(ActionMode):
        raise ValueError(f"Unknown action_mode {action_mode!r}. Choose one of {list(get_args(ActionMode))}.")
    if action_mode == "residual" and denoiser is None:
        raise ValueError(
            "action_mode 'residual' adds actions to a pretrained mean and needs a denoiser: pass denoiser=PATH "
            "(see `ddpm-shortcut pretrain`), or use action_mode 'step'."
        )
