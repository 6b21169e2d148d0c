"""The native vector environment: one batched process behind Gymnasium's ``VectorEnv``, in numpy or torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.assembly import (
    RENDER_MODES,
    EnvArguments,
    ObservationKind,
    ProcessViews,
    action_space,
    build_process,
    checked_render_mode,
    flat_observation,
    observation_space,
)
from diffusion_env.checks import (
    START,
    check_finite_start,
    check_limit,
    check_tensor,
    checked_autoreset_mode,
    checked_options,
    checked_seed,
    tensor_of,
)
from diffusion_env.critics import Critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.process import ActionMode, Mask, Outcome
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable

Array = Any  # numpy array or torch tensor, as ``array_type`` says
Observation = Any  # dict of arrays, or one array, as ``observation`` says
StepResult = tuple[Observation, Array, Array, Array, dict[str, Any]]


class DDPMShortcutVectorEnv(ProcessViews, VectorEnv[Any, Any, Any]):
    """``num_envs`` copies of ``DDPMShortcut-v0`` as one batch; see `DDPMShortcutEnv` for the task itself.

    **Arrays.** The first dimension of every array counts the environments: ``x`` (n, *shape) float32, ``step`` (n,)
    int64, reward (n,), terminated and truncated (n,) bool. With ``array_type="numpy"`` rewards and scores are float64,
    as in Gymnasium's own vector environments. With ``"torch"`` they are float32, and every array, in the infos too, is
    a tensor on ``device``; actions must be tensors there. Numbers of any real type are converted to float32. No step
    before an episode's last one waits for the device, so on an accelerator an action that is not finite is reported at
    the end of the episode. An array that was returned is never written to again.

    **Infos** of a step that ends episodes: ``critic_score``, f(x_0), and ``data_score``, mean f(data), each (n,) and 0
    where no episode ended; ``_critic_score`` and ``_data_score`` are Gymnasium's masks of the episodes that ended. The
    difference of the two scores is the reward. With ``autoreset_mode=SAME_STEP`` they are inside ``final_info``, and
    ``final_obs`` holds the last observations of the environments in the mask ``_final_obs``. With numpy arrays it has
    the form of Gymnasium's own vector environments: an object array (n,) of single observations, None elsewhere. With
    torch it is a batched observation, valid in the mask.

    **Observations.** With ``observation="flat"`` they are one array (n, D + 1) float32: x flattened, then step / K.

    **Time limit.** Every episode ends after K steps, terminated and never truncated. ``max_episode_steps`` is taken,
    because `gymnasium.make_vec` passes that of a registered id, and changes nothing: None, -1 or a number >= K; a
    smaller one is refused.

    **Reset.** ``seed`` is one int and fixes every later draw: the environments share one generator.

    - ``options={"reset_mask": mask}``, a bool array (n,): only those environments start anew. ``DISABLED`` needs it
      after an episode's end. A seed given with it still seeds the generator that all environments share.
    - ``options={"x": start}``, float32 (n, *shape) in network units, an array or tensor as the actions are: the
      environments start at copies of these states, and nothing is drawn for them. Use it for groups of trajectories
      that share x[0], and for replays.
    - Both together: only the entries of ``start`` in the mask are used, and only they must be finite.

    Other options are refused.
    """

    metadata = {"render_modes": RENDER_MODES, "render_fps": 10, "autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        dataset: str | Path | Dataset = "swiss_roll",
        num_steps: int = 10,
        sampler: str | StepTable = "ddpm",
        action_mode: ActionMode = "step",
        denoiser: str | Path | Denoiser | None = None,
        critic: str | Path | Critic = "energy",
        critic_kwargs: Mapping[str, Any] | None = None,
        train_critic: bool = True,
        observation: ObservationKind = "dict",
        array_type: Literal["numpy", "torch"] = "numpy",
        device: str | torch.device = "cpu",
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        """See `DDPMShortcutEnv`, section Arguments; what is only here is described in this class."""
        if not isinstance(array_type, str) or array_type not in ("numpy", "torch"):
            raise ValueError(f"Unknown array_type {array_type!r}. Choose 'numpy' or 'torch'.")
        self.autoreset_mode = checked_autoreset_mode(autoreset_mode)
        self.metadata = {**self.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = checked_render_mode(render_mode)
        arguments = EnvArguments(
            num_envs,
            dataset,
            num_steps,
            sampler,
            action_mode,
            denoiser,
            critic,
            critic_kwargs,
            train_critic,
            observation,
            device,
        )
        check_limit(max_episode_steps, arguments.num_steps)
        self.process, self.observation = build_process(arguments), arguments.observation
        self.num_envs, self.array_type = arguments.num_envs, array_type
        self._nobody = torch.zeros(self.num_envs, dtype=torch.bool, device=self.process.device)
        self.single_observation_space = observation_space(self.process, self.observation)
        self.single_action_space = action_space(self.process)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start all environments, or those in ``options["reset_mask"]``, at ``options["x"]``; see the class."""
        seed = checked_seed(seed)
        options = checked_options(options, ["reset_mask", "x"])
        mask = self._reset_mask(options["reset_mask"]) if "reset_mask" in options else None
        start = self._start(options["x"], mask) if "x" in options else None
        super().reset(seed=seed)
        self.seed_process(seed, self.np_random)
        return self._observation(self.process.reset(mask, start)), {}

    def step(self, actions: Array) -> StepResult:
        """One denoising step of every environment under ``actions`` (n, *shape)."""
        action = self._as_tensor("The actions", actions)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP and self.process.seeded and self.process.done.any():
            return self._step_with_resets(action)
        outcome = self.process.step(action)
        if outcome.finished is None:
            return self._result(outcome.reward, None, {})
        infos = self._end_infos(outcome, outcome.finished)
        if self.autoreset_mode is AutoresetMode.SAME_STEP:
            infos = self._final(outcome.x, outcome.finished, infos)
            self.process.reset(outcome.finished)
        return self._result(outcome.reward, outcome.finished, infos)

    def _step_with_resets(self, action: Tensor) -> StepResult:
        """Gymnasium's NEXT_STEP: this step resets the environments that ended, ignores their actions, rewards 0."""
        ended = self.process.done
        if ended.all():
            self.process.reset()
            return self._result(torch.zeros(self.num_envs, device=self.process.device), None, {})
        outcome = self.process.step(action, active=~ended)
        self.process.reset(ended)
        if outcome.finished is None:
            return self._result(outcome.reward, None, {})
        return self._result(outcome.reward, outcome.finished, self._end_infos(outcome, outcome.finished))

    def _result(self, reward: Tensor, finished: Mask | None, infos: dict[str, Any]) -> StepResult:
        observation = self._observation(self.process.x)
        return observation, self._scores(reward), self._flags(finished), self._flags(None), infos

    def _end_infos(self, outcome: Outcome, finished: Mask) -> dict[str, Any]:
        scores = {"critic_score": self._scores(outcome.critic_score), "data_score": self._scores(outcome.data_score)}
        return {**scores, **{f"_{key}": self._flags(finished) for key in scores}}

    def _final(self, x: Tensor, finished: Mask, infos: dict[str, Any]) -> dict[str, Any]:
        """The infos of SAME_STEP, with the observations of the environments that ``finished`` (n,), states x."""
        observation = self._observation(x)
        if self.array_type == "numpy":
            observation = _objects(observation, finished)
        final = {"final_obs": observation, "final_info": infos}
        return {**final, **{f"_{key}": self._flags(finished) for key in final}}

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """One picture (H, W, 3) of all particles over the data's density; None without a render mode.

        The tuple holds the same picture n times, because Gymnasium's vector wrappers expect one per environment.
        """
        if self.render_mode is None:
            return None
        from diffusion_env.rendering import render_particles

        return (render_particles(self.process),) * self.num_envs

    def evaluation_copy(self, num_envs: int | None = None) -> DDPMShortcutVectorEnv:
        """Another batch of the same task that shares this one's critic and never trains it: for evaluation.

        ``num_envs``: its size; None takes this one's. It has a generator of its own.
        """
        return DDPMShortcutVectorEnv(
            self.num_envs if num_envs is None else num_envs,
            **self.evaluation_arguments(),
            observation=self.observation,
            array_type=self.array_type,
            device=self.process.device,
            autoreset_mode=self.autoreset_mode,
            render_mode=self.render_mode,
        )

    def data_batch(self, size: int | None = None) -> Tensor:
        """Fresh training data (size, *shape), network units, from the shared generator; None: max(n, 128) points."""
        return self.process.data_batch(size)

    def update_critic(self, fake: Tensor, penalty: Penalty | None = None, size: int | None = None) -> dict[str, float]:
        """One critic step on samples ``fake`` (M, *shape), network units, for agents that train it themselves, beside
        ``size`` points of data; None for max(n, 128)."""
        return self.process.update_critic(fake, penalty, size)

    def state_dict(self) -> dict[str, Any]:
        """Copies of all that `load_state_dict` needs to continue a run bit for bit, except ``critic.state_dict()``."""
        return self.process.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken, without a `reset`; ValueError where the sizes differ."""
        self.process.load_state_dict(state)

    def _observation(self, x: Tensor) -> Observation:
        if self.observation == "flat":
            return self._out(flat_observation(self.process, x))
        # Copies: later steps must not change an observation that was returned, and a user who writes to an observation
        # must not change the process.
        return {"x": self._out(x.clone()), "step": self._steps()}

    def _scores(self, values: Tensor) -> Array:
        return self._out(values if self.array_type == "torch" else values.double())

    def _out(self, values: Tensor) -> Array:
        return values if self.array_type == "torch" else values.numpy(force=True)

    def _steps(self) -> Array:
        """The steps done, a fresh (n,) int64."""
        if self.array_type == "numpy":
            return self.process.k
        k = self.process.counts.index()
        return torch.full((self.num_envs,), k, device=self.process.device) if isinstance(k, int) else k.clone()

    def _flags(self, mask: Mask | None) -> Array:
        """``mask`` (n,) as a fresh array of the environments' type; None means False for all."""
        if mask is None:
            return self._nobody.clone() if self.array_type == "torch" else np.zeros(self.num_envs, np.bool_)
        if self.array_type == "numpy":
            return mask.copy()
        return torch.from_numpy(mask.copy()).to(self.process.device, non_blocking=True)

    def _as_tensor(self, what: str, values: Array) -> Tensor:
        if self.array_type == "numpy":
            return tensor_of(what, values, (self.num_envs, *self.process.shape), self.process.device)
        if not isinstance(values, Tensor):
            raise TypeError(
                f"{what} must be a tensor with array_type='torch'; received {type(values).__name__}. "
                "Convert with torch.as_tensor, or make the environment with array_type='numpy'."
            )
        if values.device != self.process.device:
            raise ValueError(
                f"{what} must be on {self.process.device}, where the environment is; received a tensor on "
                f"{values.device}. Move it there first, or make the environment with the policy's device."
            )
        if values.dtype != torch.float32 and not values.is_complex():
            values = values.float()
        return values.detach() if values.requires_grad else values

    def _start(self, values: Array, mask: Mask | None) -> Tensor:
        start = self._as_tensor(START, values)
        check_tensor(START, start, (self.num_envs, *self.process.shape))
        check_finite_start(start if mask is None else start[torch.from_numpy(mask).to(start.device)])
        return start

    def _reset_mask(self, mask: Any) -> Mask:
        array = mask.numpy(force=True) if isinstance(mask, Tensor) else mask
        if not isinstance(array, np.ndarray) or array.dtype != np.bool_:
            raise TypeError(f"options['reset_mask'] must be a bool array or tensor; received {mask!r}.")
        if array.shape != (self.num_envs,) or not array.any():
            raise ValueError(
                f"options['reset_mask'] must have shape ({self.num_envs},) and at least one True; received {mask!r}."
            )
        return array


def _objects(observation: Observation, finished: Mask) -> NDArray[np.object_]:
    """An object array (n,) of single observations where ``finished`` (n,), None elsewhere, as Gymnasium's vectors."""
    if isinstance(observation, dict):
        num_steps = observation["step"][finished][0]  # one number, which cannot be written to, serves all that ended
        single: list[Any] = [{"x": x, "step": num_steps} for x in observation["x"][finished]]
    else:
        single = list(observation[finished])
    objects = np.full(len(finished), None, dtype=object)
    objects[finished] = np.fromiter(single, object, len(single))
    return objects
