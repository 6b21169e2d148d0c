r"""The denoising MDP as plain batched tensors: the core that every shell of the environment shares.

Letters: B particles (environments), K steps, k[i] the steps particle i has done, x its state, x_0 = x[K] the finished
sample, f the critic. The reward of the last step is f(x_0) - mean f(data), 0 before it: the mean return is minus the
critic's estimate of the IPM between data and sampler (Fan & Lee 2023, section 4).

Which particles are where is known on the host (``k``), so no step has to ask the device; while all have done as many
steps, as they usually have, that is one number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.checks import check_largest, check_tensor
from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable

ActionMode = Literal["step", "residual"]
Mask = NDArray[np.bool_]

CRITIC_BATCH = 128
"""The least number of finished samples in one critic update; smaller environments collect that many first."""

REWARD_BATCH = 512
"""The most data points that a reward is measured against: scoring more would cost as much as a denoising step."""


@dataclass(frozen=True)
class Outcome:
    """What one step did; scores and rewards are 0 where nothing finished."""

    x: Tensor  # (B, *shape) after the step, before any reset
    reward: Tensor  # (B,)
    critic_score: Tensor  # (B,) f(x_0)
    data_score: Tensor  # (B,) mean of f over one data batch
    finished: Mask | None  # (B,), on the host; None where no particle did


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
        self.shape = dataset.shape  # of one particle
        self.device = dataset.device
        self.table = table.to(self.device)
        self.num_envs, self.action_mode = num_envs, action_mode
        self.train_critic, self._owns_critic = train_critic, owns_critic
        self.generator = torch.Generator(self.device)
        self.seeded = False
        self.critic_metrics: dict[str, float] = {}
        self.steps_done: int | NDArray[np.int64] = table.num_steps  # k; one int where all agree; none has started
        self.x = torch.zeros(num_envs, *dataset.shape, device=self.device)
        # x[0] ... x[K] of all particles, (K + 1, B, *shape): for a critic that wants them and to draw a single one.
        keeps_states = critic.wants_trajectory or num_envs == 1
        self._states = self.x.repeat(table.num_steps + 1, *[1] * self.x.ndim) if keeps_states else None
        self._pending: list[Tensor] = []  # finished samples the critic has not seen, (1 or K + 1, M, *shape) each
        self._unseen: Tensor | None = None  # the largest action not looked at yet, NaN if one is
        self._zeros = torch.zeros(num_envs, device=self.device)

    @property
    def k(self) -> NDArray[np.int64]:
        """The steps each particle has done, a fresh array (B,); K where it is finished or was never started."""
        return np.full(self.num_envs, self.steps_done)

    @k.setter
    def k(self, k: NDArray[np.int64]) -> None:
        first = int(k[0])
        self.steps_done = first if bool((k == first).all()) else k.copy()

    @property
    def done(self) -> Mask:
        """Which particles are finished or were never started, a fresh array (B,)."""
        return np.full(self.num_envs, self.steps_done == self.table.num_steps)

    @property
    def path(self) -> Tensor:
        """The states x[0] ... x[k] of the first particle, (k + 1, *shape); its present one where they are not kept."""
        return self.x[:1] if self._states is None else self._states[: int(self.k[0]) + 1, 0]

    def seed(self, seed: int) -> None:
        """Fix every draw from here on: start noise, data batches and, if the process owns it, the critic's weights."""
        own, critics = np.random.SeedSequence(seed).generate_state(2).tolist()
        self.generator.manual_seed(own)
        self.seeded = True
        self._pending = []
        if self._owns_critic:
            self.critic.reset(torch.Generator().manual_seed(critics))

    def reset(self, mask: Mask | None = None, start: Tensor | None = None) -> Tensor:
        """Start all particles, or those in ``mask`` (B,), at x[0] ~ N(0, I); returns x (B, *shape).

        ``start`` (B, *shape): take copies of these states instead and draw nothing.
        """
        if start is None:
            start = torch.randn(self.x.shape, generator=self.generator, device=self.device)
        else:
            start = start.clone()
        if mask is None or mask.all():
            self.x, self.steps_done = start, 0
        else:
            self.x, self.k = torch.where(self._event_mask(mask), start, self.x), np.where(mask, 0, self.k)
        self._record()
        return self.x

    def step(self, action: Tensor, active: Mask | None = None) -> Outcome:
        """One denoising step of all particles, or of the ``active`` ones (B,), under ``action`` (B, *shape), float32.

        Raises ResetNeeded where an active particle is finished, TypeError or ValueError for an unusable action, all
        before anything has changed (on an accelerator a non-finite action is found when an episode ends).
        """
        self._check_running(active)
        check_tensor("The action", action, (self.num_envs, *self.shape))
        if active is None:
            self.x = self._move(self._finite(action))
            self.steps_done = self.steps_done + 1
        else:
            moving = self._event_mask(active)
            self.x = torch.where(moving, self._move(self._finite(action.where(moving, 0.0))), self.x)
            self.k = self.k + active
        self._record()
        finished = self._done_among(active)
        return self._no_reward() if finished is None else self._finish(finished)

    def _move(self, action: Tensor) -> Tensor:
        event_dims = len(self.shape)
        k = self.k_on_device()
        if isinstance(k, Tensor):
            k = k.clamp(max=self.table.num_steps - 1)  # finished particles do not move: any row will do for them
        if self.action_mode == "step":
            row = self.table.rows(k, event_dims)
            return torch.addcmul(row.x_coef * self.x, row.action_scale, action)
        assert self.denoiser is not None
        with torch.no_grad():
            eps = self.denoiser(self.x, self.table.time[k])
        law = self.table.law(k, self.x, eps, event_dims)
        return torch.addcmul(law.mean, law.std, action)

    def k_on_device(self) -> int | Tensor:
        """k as one int where all particles agree (one row for all, no gather), else (B,)."""
        return self.steps_done if isinstance(self.steps_done, int) else self._on_device(self.steps_done)

    def _record(self) -> None:
        if self._states is None:
            return
        k = self.k_on_device()
        if isinstance(k, int):
            self._states[k] = self.x
        else:
            self._states[k, torch.arange(self.num_envs, device=self.device)] = self.x

    def _no_reward(self) -> Outcome:
        zeros = self._zeros.clone()  # in a loop full of copies, quicker than new zeros
        return Outcome(self.x, zeros, zeros, zeros, None)

    @torch.no_grad()
    def _finish(self, finished: Mask) -> Outcome:
        self._look_at_actions()
        if self.train_critic:
            self._collect(finished)
        ended = self._on_device(finished)
        critic_score = self.critic(self.x).where(ended, 0.0)
        data = self.dataset.sample(min(self._data_batch_size, REWARD_BATCH), self.generator)
        data_score = self.critic(data).mean().where(ended, 0.0)
        return Outcome(self.x, critic_score - data_score, critic_score, data_score, finished)

    def _collect(self, finished: Mask) -> None:
        """Keep the finished samples; with `CRITIC_BATCH` of them, train the critic once on all."""
        states = self._states if self._states is not None and self.critic.wants_trajectory else self.x[None]
        self._pending.append(states[:, self._on_device(np.flatnonzero(finished))])
        if sum(part.shape[1] for part in self._pending) < CRITIC_BATCH:
            return
        states, self._pending = torch.cat(self._pending, dim=1), []
        self.update_critic(states[-1], self.critic.trajectory_penalty(states))

    def data_batch(self) -> Tensor:
        """A fresh batch of training data (max(B, CRITIC_BATCH), *shape)."""
        return self.dataset.sample(self._data_batch_size, self.generator)

    @property
    def _data_batch_size(self) -> int:
        return max(self.num_envs, CRITIC_BATCH)

    def update_critic(self, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """One critic step on samples ``fake`` (M, *shape) against a fresh data batch; returns the critic's metrics."""
        self.critic_metrics = self.critic.update(self.data_batch(), fake, penalty)
        return self.critic_metrics

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that makes a run go on bit for bit, beside ``critic.state_dict()``; see `load_state_dict`."""
        return {
            "x": self.x.clone(),
            "k": torch.from_numpy(self.k),
            "states": None if self._states is None else self._states.clone(),
            "pending": [part.clone() for part in self._pending],
            "generator": self.generator.get_state(),
            "critic_metrics": dict(self.critic_metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken. ValueError unless num_envs, K, the shape and what is kept agree."""
        states = state["states"]
        theirs = tuple(state["x"].shape), None if states is None else tuple(states.shape)
        ours = tuple(self.x.shape), None if self._states is None else tuple(self._states.shape)
        if theirs != ours or int(state["k"].max()) > self.table.num_steps:
            raise ValueError(
                f"The saved process holds particles of shape {theirs[0]} (num_envs, *shape) and kept states of shape "
                f"{theirs[1]} (K + 1, num_envs, *shape), but this one holds {ours[0]} and {ours[1]}, with K = "
                f"{self.table.num_steps}. Make the environment with the arguments of the saved run."
            )
        self.x = state["x"].to(self.device, copy=True)
        self.k = state["k"].cpu().numpy()
        self._states = None if states is None else states.to(self.device, copy=True)
        self._pending = [part.to(self.device, copy=True) for part in state["pending"]]
        self.generator.set_state(state["generator"].cpu())
        self.critic_metrics = dict(state["critic_metrics"])
        self.seeded = True

    def _on_device(self, array: NDArray[Any]) -> Tensor:
        # From pageable memory this returns once the array has been staged: nothing waits for the device.
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def _event_mask(self, mask: Mask) -> Tensor:
        return self._on_device(mask).reshape(-1, *[1] * len(self.shape))

    def _done_among(self, active: Mask | None) -> Mask | None:
        """Which of the ``active`` particles are done, (B,); None if none is, in lockstep without touching an array."""
        if isinstance(self.steps_done, int) and self.steps_done < self.table.num_steps:
            return None
        done = self.done if active is None else self.done & active
        return done if done.any() else None

    def _check_running(self, active: Mask | None) -> None:
        stopped = self._done_among(active)
        if stopped is not None:
            raise ResetNeeded(
                f"{stopped.sum()} of {self.num_envs} samples are finished or were never started. Call reset() before "
                "step(); a vector environment also takes reset(options={'reset_mask': mask}) for some of them alone."
            )

    def _finite(self, action: Tensor) -> Tensor:
        if self.device.type != "cpu":  # looking would wait for the device: done once, at the episode's end
            largest = action.abs().max()
            self._unseen = largest if self._unseen is None else torch.maximum(self._unseen, largest)
        elif not math.isfinite(action.sum().item()):  # the quickest look; finite actions may overflow it
            check_largest(action.abs().max())
        return action

    def _look_at_actions(self) -> None:
        largest, self._unseen = self._unseen, None
        if largest is not None:
            check_largest(largest)


def _check_arguments(num_envs: int, action_mode: str, denoiser: Denoiser | None) -> None:
    if isinstance(num_envs, bool) or not isinstance(num_envs, int) or num_envs < 1:
        raise ValueError(f"num_envs must be an integer >= 1; received {num_envs!r}.")
    if action_mode not in get_args(ActionMode):
        raise ValueError(f"Unknown action_mode {action_mode!r}. Choose one of {list(get_args(ActionMode))}.")
    if action_mode == "residual" and denoiser is None:
        raise ValueError(
            "action_mode 'residual' adds actions to the mean of a pretrained sampler, and no network is shipped for "
            "this data set. Pass denoiser=PATH (see `ddpm-shortcut pretrain`), or use action_mode 'step'."
        )
