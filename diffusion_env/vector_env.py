"""The native vector environment: one batched process behind Gymnasium's ``VectorEnv``, in numpy or torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.assembly import action_space, build_process, observation_space
from diffusion_env.critics import Critic
from diffusion_env.datasets import Dataset
from diffusion_env.denoisers import Denoiser
from diffusion_env.process import ActionMode, DenoisingProcess, Outcome
from diffusion_env.tables import StepTable

Array = Any  # numpy array or torch tensor, as ``array_type`` says
Mask = NDArray[np.bool_]


class DDPMShortcutVectorEnv(VectorEnv):
    """``num_envs`` copies of ``DDPMShortcut-v0`` as one batch; see `DDPMShortcutEnv` for the task itself.

    Observations, rewards and flags are batched over the first dimension: ``x`` (n, *shape) float32, ``step`` (n,)
    int64, reward (n,), terminated and truncated (n,) bool. With ``array_type="torch"`` all are tensors on ``device``,
    actions are taken as tensors there and no step of an episode waits for the device (rewards are float32; a non-finite
    action is reported at the end of the episode). With "numpy" rewards are float64.

    **Info keys**, in the step that ends an episode: ``critic_score`` (n,) f(x_0) and ``data_score`` (n,) mean f(data),
    whose difference is the reward, each with Gymnasium's mask ``_critic_score``, ``_data_score``. With
    ``autoreset_mode=SAME_STEP`` they are in ``final_info``, beside ``final_obs``, a dict of batched arrays like an
    observation, and the masks ``_final_obs``, ``_final_info``.

    ``reset(seed=...)`` takes an int and fixes every later draw; ``reset(options={"reset_mask": mask})`` with a numpy
    bool array (n,) starts only those environments anew, which ``DISABLED`` needs after an episode's end.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Path | Dataset = "swiss_roll",
        num_steps: int = 10,
        sampler: str | StepTable = "ddpm",
        action_mode: ActionMode = "step",
        denoiser: str | Path | Denoiser | None = None,
        critic: str | Path | Critic = "energy",
        train_critic: bool = True,
        array_type: Literal["numpy", "torch"] = "numpy",
        device: str | torch.device = "cpu",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
    ) -> None:
        """See the table of arguments in `DDPMShortcutEnv`; ``array_type``, ``device``, ``autoreset_mode`` are here only."""
        if array_type not in ("numpy", "torch"):
            raise ValueError(f"Unknown array_type {array_type!r}. Choose 'numpy' or 'torch'.")
        self.process: DenoisingProcess = build_process(
            num_envs, dataset, num_steps, sampler, action_mode, denoiser, critic, train_critic, device
        )
        self.num_envs, self.array_type, self.render_mode = num_envs, array_type, render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = observation_space(self.process)
        self.single_action_space = action_space(self.process)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._done: Mask = np.ones(num_envs, np.bool_)  # ended and not yet reset
        self._seeded = False

    critic = property(lambda self: self.process.critic, doc="The reward: a `Critic`.")
    dataset = property(lambda self: self.process.dataset, doc="The data: a `Dataset`.")
    table = property(lambda self: self.process.table, doc="The sampler: a `StepTable`.")
    denoiser = property(lambda self: self.process.denoiser, doc="The pretrained network, or None.")

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Array], dict[str, Any]]:
        """Start all environments, or those in ``options["reset_mask"]``; see the class for seeding."""
        _check_seed(seed)
        super().reset(seed=seed)
        if seed is not None or not self._seeded:
            self.process.seed(int(self.np_random.integers(2**31)))
            self._seeded = True
        mask = self._checked_mask((options or {}).get("reset_mask"))
        self._done = self._done & ~mask
        return self._observation(self.process.reset(mask)), {}

    def step(self, actions: Array) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """One denoising step of every environment under ``actions`` (n, *shape), float32."""
        action = self._as_tensor(actions)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self._done.any():
            return self._step_with_resets(action)
        if self._done.any():
            raise RuntimeError(
                f"{int(self._done.sum())} of {self.num_envs} environments have ended or were never reset. Call reset(), "
                "or reset(options={'reset_mask': mask}) for those alone, before step()."
            )
        outcome = self.process.step(action)
        infos = self._end_infos(outcome)
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._done = outcome.finished
        elif outcome.finished.any():
            infos = self._final(outcome.finished, self._observation(outcome.x), infos)
            self.process.reset(outcome.finished)
        return self._result(outcome.reward, outcome.finished, infos)

    def _step_with_resets(self, action: Tensor) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        """Gymnasium's NEXT_STEP: environments that ended are reset by this step, their action ignored, reward 0."""
        ended = self._done
        if ended.all():
            self._done = np.zeros_like(ended)
            self.process.reset()
            return self._result(torch.zeros(self.num_envs, device=action.device), self._done, {})
        outcome = self.process.step(action, active=~ended)
        infos = self._end_infos(outcome)
        self.process.reset(ended)
        self._done = outcome.finished
        return self._result(outcome.reward, outcome.finished, infos)

    def _result(
        self, reward: Tensor, finished: Mask, infos: dict[str, Any]
    ) -> tuple[dict[str, Array], Array, Array, Array, dict[str, Any]]:
        reward = reward if self.array_type == "torch" else reward.double()
        never = np.zeros(self.num_envs, np.bool_)
        observation = self._observation(self.process.x)
        return observation, self._out(reward), self._flags(finished), self._flags(never), infos

    def _end_infos(self, outcome: Outcome) -> dict[str, Any]:
        if not outcome.finished.any():
            return {}
        data_score = outcome.data_score.expand(self.num_envs) * torch.from_numpy(outcome.finished).to(outcome.x.device)
        scores = {"critic_score": self._out(outcome.critic_score), "data_score": self._out(data_score)}
        return {**scores, **{f"_{key}": outcome.finished.copy() for key in scores}}

    def _final(self, finished: Mask, observation: dict[str, Array], infos: dict[str, Any]) -> dict[str, Any]:
        """Gymnasium's SAME_STEP keys, with ``final_obs`` kept batched."""
        final = {"final_obs": observation, "final_info": infos}
        return {**final, **{f"_{key}": finished.copy() for key in final}}

    def render(self) -> tuple[NDArray[np.uint8]] | None:  # type: ignore[override]
        """One picture of all particles over the data's density, in a tuple as Gymnasium's vector wrappers expect."""
        if self.render_mode is None:
            return None
        from diffusion_env.rendering import render_particles

        return (render_particles(self.process),)

    def _observation(self, x: Tensor) -> dict[str, Array]:
        # Copies: what is handed out must never change when the process moves on, nor the process when it is changed.
        step = torch.from_numpy(self.process.k.copy()).to(x.device)
        return {"x": self._out(x.clone()), "step": self._out(step)}

    def _out(self, value: Tensor) -> Array:
        return value if self.array_type == "torch" else value.numpy(force=True)

    def _flags(self, mask: Mask) -> Array:
        return self._out(torch.from_numpy(mask.copy()).to(self.process.device))

    def _as_tensor(self, actions: Array) -> Tensor:
        if self.array_type == "torch":
            if not isinstance(actions, Tensor):
                raise TypeError(f"array_type='torch' takes torch tensors as actions; received {type(actions).__name__}.")
            return actions.detach()
        if not isinstance(actions, np.ndarray):
            raise TypeError(f"array_type='numpy' takes numpy arrays as actions; received {type(actions).__name__}.")
        return torch.from_numpy(np.ascontiguousarray(actions)).to(self.process.device)

    def _checked_mask(self, mask: Any) -> Mask:
        if mask is None:
            return np.ones(self.num_envs, np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"options['reset_mask'] must be a numpy bool array of shape ({self.num_envs},) with at least one True; "
                f"received {mask!r}."
            )
        return mask


def _check_seed(seed: Any) -> None:
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
        raise TypeError(
            f"seed must be a non-negative int or None; received {seed!r}. The environments of a native vector share one "
            "generator, so there is no list of seeds."
        )
