r"""The denoising MDP as batched tensors: the core that every environment class shares.

B particles, K steps. x (B, *shape) is the state; k (B,) counts the steps that each particle has done; a is the action,
f the critic, x_0 = x[K] the finished sample.

    start    x[0] ~ N(0, I)
    step     x[k+1] = x_coef[k] * x[k] + sqrt(eps_coef[k]^2 + std[k]^2) * a[k]                       ("step" mode)
             x[k+1] = x_coef[k] * x[k] + eps_coef[k] * eps(x[k], time[k]) + std[k] * a[k]        ("residual" mode)
    reward   r[K-1] = f(x[K]) - mean over data of f,   r[k] = 0 for k < K - 1

With a[k] ~ N(0, I), "residual" is the pretrained sampler (Ho et al. 2020, algorithm 2, for a DDPM table). The mean
return is minus the critic's estimate of the integral probability metric between data and samples (Fan & Lee 2023,
section 4). The critic is trained on the finished samples before it scores the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.checks import StateCheck, check_tensor, non_finite_action
from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.fields import checked
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable
from diffusion_env.scores import check_finite_reward, checked_metrics, checked_scores
from diffusion_env.seeds import stream, stream_seed
from diffusion_env.shards import WHOLE, Shard
from diffusion_env.step_counts import Mask, StepCounts, host_to_device
from diffusion_env.unseen_samples import CRITIC_BATCH, UnseenSamples, num_updates

ActionMode = Literal["step", "residual"]

REWARD_BATCH = 512
"""The most data points in the mean of a reward: to score more would cost as much as a denoising step."""


@dataclass(frozen=True)
class Outcome:
    """What one step did; scores and rewards are 0 where no sample was finished."""

    x: Tensor  # (B, *shape) after the step, before any reset
    reward: Tensor  # (B,)
    critic_score: Tensor  # (B,) f(x_0)
    data_score: Tensor  # (B,) mean of f over one data batch
    finished: Mask | None  # (B,), on the host; None if this step finished no sample


class DenoisingProcess:
    """B particles that are denoised along one step table under given actions."""

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
        """``num_envs`` is B. ``owns_critic``: whether `seed` also resets the critic. All is on the data set's device.

        Raises ValueError for an unknown ``action_mode``, or for "residual" without a denoiser.
        """
        assert num_envs >= 1, num_envs
        _check_arguments(action_mode, denoiser)
        self.dataset, self.critic, self.denoiser = dataset, critic, denoiser
        self.shape = dataset.shape  # of one particle
        self.device = dataset.device
        self.table = table.to(self.device)
        self.num_envs, self.action_mode = num_envs, action_mode
        self.train_critic, self._owns_critic = train_critic, owns_critic
        self.generator = torch.Generator(self.device)
        self.shard: Shard = WHOLE  # which of the particles of all processes these are
        self.seeded = False
        self.critic_metrics: dict[str, float] = {}
        self.x = torch.zeros(num_envs, *dataset.shape, device=self.device)
        self.counts = StepCounts(num_envs, table.num_steps, self.device)
        self.unseen = UnseenSamples()
        self._state_check = StateCheck(deferred=self.device.type != "cpu")
        # x[0] ... x[K] of all particles, (K + 1, B, *shape): kept for a critic that asks for trajectories, and for
        # the picture of a single particle.
        keeps_states = critic.wants_trajectory or num_envs == 1
        self._states = self.x.repeat(table.num_steps + 1, *[1] * self.x.ndim) if keeps_states else None

    @property
    def k(self) -> NDArray[np.int64]:
        """The steps that each particle has done, a fresh array (B,); K if it is finished or was never started."""
        return self.counts.k

    @property
    def done(self) -> Mask:
        """Which particles are finished or were never started, a fresh array (B,)."""
        return self.counts.done

    @property
    def path(self) -> Tensor:
        """x[0] ... x[k] of the first particle, (k + 1, *shape); x[k] alone, (1, *shape), if states are not kept."""
        return self.x[:1] if self._states is None else self._states[: int(self.k[0]) + 1, 0]

    def seed(self, seed: int) -> None:
        """Fix every later draw: starts, data batches and, if the process owns the critic, its initial weights.

        Samples that the critic has not seen are forgotten.
        """
        self.generator.manual_seed(stream_seed(seed, "environment"))
        self.seeded = True
        self.unseen.clear()
        if self._owns_critic:
            self.critic.reset(stream(seed, "critic"))

    def reset(self, mask: Mask | None = None, start: Tensor | None = None) -> Tensor:
        """Start all particles, or those in ``mask`` (B,), at x[0] ~ N(0, I); returns x (B, *shape).

        ``start`` (B, *shape): start at copies of these states instead and draw nothing.
        """
        if start is None:
            start = self.shard.normal(self.x.shape, self.generator, self.device)
        else:
            assert start.shape == self.x.shape, start.shape
            start = start.clone()
        if mask is None or mask.all():
            self.x = start
            self.counts.restart()
        else:
            self.x = torch.where(self._event_mask(mask), start, self.x)
            self.counts.restart(mask)
        self._record_states()
        return self.x

    def step(self, action: Tensor, active: Mask | None = None) -> Outcome:
        """One denoising step of all particles, or of the ``active`` ones (B,), under ``action`` (B, *shape), float32.

        Before anything has changed, raises ResetNeeded if an active particle is done, TypeError or ValueError for an
        action of another type or shape, NonFiniteActionError where the action makes the next state NaN or infinite, and
        FloatingPointError where the denoiser does. On an accelerator the last two are raised when an episode ends.
        When samples are finished, raises FloatingPointError for scores of the critic, or a loss that it reports, that
        are not finite, and TypeError or ValueError where it gives no scores (B,). What a critic raises passes through.
        """
        # check
        self.counts.check_running(active)
        check_tensor("The action", action, (self.num_envs, *self.shape))
        moving = None if active is None else self._event_mask(active)
        # move
        moved = self.move(action)
        moved = moved if moving is None else torch.where(moving, moved, self.x)
        self._state_check.look(moved, self._why_not_finite)
        self.x = moved
        # record
        self.counts.advance(active)
        self._record_states()
        # reward
        finished = self.counts.done_among(active)
        if finished is None:
            zeros = self.x.new_zeros(self.num_envs)
            return Outcome(self.x, zeros, zeros, zeros, None)
        return self._reward(finished)

    def move(self, action: Tensor) -> Tensor:
        """x[k+1] (B, *shape) of every particle under ``action`` (B, *shape); changes nothing."""
        event_dims = len(self.shape)
        k = self.counts.index()
        if isinstance(k, Tensor):
            k = k.clamp(max=self.table.num_steps - 1)  # particles that are done: `step` ignores what comes out
        if self.action_mode == "step":
            row = self.table.rows(k, event_dims)
            return torch.addcmul(row.x_coef * self.x, row.action_scale, action)
        assert self.denoiser is not None
        with torch.no_grad():
            eps = self.denoiser(self.x, self.table.time[k])
        law = self.table.law(k, self.x, eps, event_dims)
        return torch.addcmul(law.mean, law.std, action)

    def _record_states(self) -> None:
        if self._states is None:
            return
        k = self.counts.index()
        if isinstance(k, int):
            self._states[k] = self.x
        else:
            self._states[k, torch.arange(self.num_envs, device=self.device)] = self.x

    @torch.no_grad()
    def _reward(self, finished: Mask) -> Outcome:
        """f(x_0) - mean over data of f where ``finished`` (B,), after the critic has been trained on x_0."""
        self._state_check.settle(self._why_not_finite)
        if self.train_critic:
            self._show_to_critic(finished)
        ended = host_to_device(finished, self.device)
        critic_score = checked_scores(self.critic, self.x).where(ended, 0.0)
        data = self.data_batch(most=REWARD_BATCH)
        data_score = checked_scores(self.critic, data).mean().where(ended, 0.0)
        reward = critic_score - data_score
        check_finite_reward(self.critic, reward)
        return Outcome(self.x, reward, critic_score, data_score, finished)

    @torch.no_grad()
    def _why_not_finite(self) -> Exception:
        """The error where the next state is not finite: whether the denoiser or the action is to blame is tried out."""
        if self.action_mode == "step":
            return non_finite_action()
        assert self.denoiser is not None
        k = self.counts.index()
        x = self.x
        if not x.isfinite().all():  # found at the end of an episode: the state at which it began is gone
            x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        last = self.table.num_steps - 1
        eps = self.denoiser(x, self.table.time[k.clamp(max=last) if isinstance(k, Tensor) else min(k, last)])
        if eps.isfinite().all():
            return non_finite_action()
        return FloatingPointError(
            f"The pretrained denoiser {_name_of(self.denoiser)} gave NaN or infinity for a state that is "
            "finite; in action_mode 'residual' its answer is part of every step. Its weights are damaged "
            "or were trained for other data: give another denoiser, or use action_mode 'step'."
        )

    def _show_to_critic(self, finished: Mask) -> None:
        """Train the critic on all samples it has not seen, if there are enough of them, `num_updates` times."""
        states = self._states if self._states is not None and self.critic.wants_trajectory else self.x[None]
        self.unseen.add(states[:, host_to_device(np.flatnonzero(finished), self.device)])
        batch = self.unseen.take_batch()
        if batch is None:
            return
        for part in batch.tensor_split(num_updates(batch.shape[1]), dim=1):
            self.update_critic(part[-1], self.critic.trajectory_penalty(part))

    def data_batch(self, size: int | None = None, most: int | None = None) -> Tensor:
        """This shard's part of a fresh batch of data (size, *shape); None: max(B, CRITIC_BATCH); at most ``most``."""
        size = max(self.num_envs * self.shard.size, CRITIC_BATCH) if size is None else size
        return self.dataset.sample(size if most is None else min(size, most), self.generator, shard=self.shard)

    def update_critic(self, fake: Tensor, penalty: Penalty | None = None, size: int | None = None) -> dict[str, float]:
        """One critic step on samples ``fake`` (M, *shape) against a `data_batch` of ``size`` points; its metrics."""
        self.critic_metrics = checked_metrics(self.critic, self.critic.update(self.data_batch(size), fake, penalty))
        return self.critic_metrics

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that `load_state_dict` needs to continue a run bit for bit, except ``critic.state_dict()``."""
        return {
            "x": self.x.clone(),
            "k": torch.from_numpy(self.k),
            "states": None if self._states is None else self._states.clone(),
            "pending": self.unseen.state(),
            "generator": self.generator.get_state(),
            "critic_metrics": dict(self.critic_metrics),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken. ValueError if num_envs, K, the shape or the kept states differ."""
        states = state["states"]
        theirs = tuple(state["x"].shape), None if states is None else tuple(states.shape)
        ours = tuple(self.x.shape), None if self._states is None else tuple(self._states.shape)
        k = state["k"]
        whole = k.dtype == torch.int64 and k.shape == (self.num_envs,) and 0 <= int(k.min()) <= int(k.max())
        if theirs != ours or not whole or int(k.max()) > self.table.num_steps:
            raise ValueError(
                f"The saved process holds particles of shape {theirs[0]} (num_envs, *shape) and kept states of shape "
                f"{theirs[1]} (K + 1, num_envs, *shape), but this one holds {ours[0]} and {ours[1]}, with K = "
                f"{self.table.num_steps}. Make the environment with the arguments of the saved run."
            )
        kept = [state["x"], *([] if states is None else [states]), *state["pending"]]
        if any(part.dtype != torch.float32 for part in kept):
            raise ValueError(f"The saved process holds states of {[part.dtype for part in kept]}, not of float32.")
        metrics = {str(key): checked(value, float, key) for key, value in state["critic_metrics"].items()}
        self.x = state["x"].to(self.device, copy=True)
        self.counts.k = k.cpu().numpy()
        self._states = None if states is None else states.to(self.device, copy=True)
        self.unseen.load(state["pending"], self.device, self.shape)
        self.generator.set_state(state["generator"].cpu())
        self.critic_metrics = metrics
        self.seeded = True

    def _event_mask(self, mask: Mask) -> Tensor:
        """``mask`` (B,) as (B, 1, ..., 1) on the device, to broadcast against x."""
        return host_to_device(mask, self.device).reshape(-1, *[1] * len(self.shape))


def _name_of(module: Any) -> str:
    """The class of a network, inside the adapters that were put around it."""
    return type(getattr(module, "network", module)).__name__


def _check_arguments(action_mode: str, denoiser: Denoiser | None) -> None:
    if action_mode not in get_args(ActionMode):
        raise ValueError(f"Unknown action_mode {action_mode!r}. Choose one of {list(get_args(ActionMode))}.")
    if action_mode == "residual" and denoiser is None:
        raise ValueError(
            "action_mode 'residual' adds actions to the mean of a pretrained sampler, and no network is shipped for "
            "this data set. Pass denoiser=PATH (see `ddpm-shortcut pretrain`), or use action_mode 'step'."
        )
