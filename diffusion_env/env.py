"""``DDPMShortcut-v0``: the sampling of a diffusion model as a Gymnasium environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.error import ResetNeeded
from numpy.typing import NDArray

from diffusion_env.assembly import action_space, build_process, observation_space
from diffusion_env.critics import Critic
from diffusion_env.datasets import Dataset
from diffusion_env.denoisers import Denoiser
from diffusion_env.process import ActionMode
from diffusion_env.tables import StepTable

Observation = dict[str, Any]


class DDPMShortcutEnv(gym.Env[Observation, NDArray[np.float32]]):
    """DOCSTRING"""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        dataset: str | Path | Dataset = "swiss_roll",
        num_steps: int = 10,
        sampler: str | StepTable = "ddpm",
        action_mode: ActionMode = "step",
        denoiser: str | Path | Denoiser | None = None,
        critic: str | Path | Critic = "energy",
        train_critic: bool = True,
        render_mode: str | None = None,
    ) -> None:
        """See the class docstring, section Arguments."""
        self.process = build_process(
            1, dataset, num_steps, sampler, action_mode, denoiser, critic, train_critic, "cpu"
        )
        self.render_mode = render_mode
        self.observation_space = observation_space(self.process)
        self.action_space = action_space(self.process)
        self._seeded = False
        self._done = True

    critic = property(lambda self: self.process.critic, doc="The reward: a `Critic`.")
    dataset = property(lambda self: self.process.dataset, doc="The data: a `Dataset`.")
    table = property(lambda self: self.process.table, doc="The sampler: a `StepTable`.")
    denoiser = property(lambda self: self.process.denoiser, doc="The pretrained network, or None.")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start a new sample at x[0] ~ N(0, I); ``seed`` fixes every later draw; ``options`` is not used."""
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.process.seed(int(self.np_random.integers(2**31)))
            self._seeded = True
        self.process.reset()
        self._done = False
        return self._observation(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One denoising step under ``action`` (*shape), float32."""
        if self._done:
            raise ResetNeeded("The sample is finished or was never started: call reset() before step().")
        outcome = self.process.step(torch.from_numpy(_checked_action(action, self.process.shape))[None])
        self._done = bool(outcome.finished[0])
        info = {}
        if self._done:
            info = {"critic_score": float(outcome.critic_score[0]), "data_score": float(outcome.data_score)}
        return self._observation(), float(outcome.reward[0]), self._done, False, info

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The particle's path so far over the data's density, (H, W, 3) uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        from diffusion_env.rendering import render_particles

        return render_particles(self.process)

    def _observation(self) -> Observation:
        return {"x": self.process.x[0].numpy().copy(), "step": np.int64(self.process.k[0])}


def _checked_action(action: Any, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if not isinstance(action, np.ndarray) or action.dtype != np.float32 or action.shape != shape:
        received = f"{type(action).__name__} of dtype {getattr(action, 'dtype', None)}, shape {np.shape(action)}"
        raise ValueError(
            f"The action must be a float32 numpy array of shape {shape}; received {received}. Convert it with "
            "np.asarray(action, np.float32)."
        )
    return np.ascontiguousarray(action)
