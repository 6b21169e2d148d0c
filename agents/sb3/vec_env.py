"""The native batch as a stable-baselines3 ``VecEnv``: n environments, one object, one copy from the device per step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from diffusion_env import ENV_ID
from diffusion_env.checks import START, checked_options, tensor_of
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable
from diffusion_env.vector_env import DDPMShortcutVectorEnv

DEFAULT_NUM_ENVS = 1024

Indices = int | Iterable[int] | None
Infos = list[dict[str, Any]]
Observation = Any  # dict of arrays, or one array


class DDPMShortcutVecEnv(VecEnv):
    """``DDPMShortcut-v0`` for stable-baselines3's algorithms and wrappers.

    Observations are dicts of arrays, ``x`` (n, *shape) float32 and ``step`` (n,) int64, or with ``observation="flat"``
    one array (n, D + 1) float32 of x and step / K; rewards (n,) float32, dones
    (n,) bool: as DummyVecEnv gives them. Infos are empty but where an episode ends: there one holds
    ``terminal_observation``, ``TimeLimit.truncated`` (False), ``episode`` (return "r" and length "l", which SB3
    averages to rollout/ep_rew_mean), ``critic_score`` and ``data_score``.

    The environments share one generator, so of the seeds that `seed` returns only the first is used. `set_options`
    takes one dict for all environments, or a list of n: ``{"x": start}`` with a state (*shape), in network units, is
    where an environment starts at the next `reset`, ``{}`` one that starts at noise. Other options are refused there.

    Args:
        env: an environment's id, or a ready `DDPMShortcutVectorEnv` with array_type "torch" and SAME_STEP autoreset.
        num_envs: n; None takes 1024, or the ready environment's.
        env_kwargs: keywords of ``gym.make_vec``, ``device`` among them; not with a ready environment.
        seed: of the first reset; None leaves it to the algorithm's own seed.
    """

    def __init__(
        self,
        env: str | DDPMShortcutVectorEnv = ENV_ID,
        num_envs: int | None = None,
        env_kwargs: Mapping[str, Any] | None = None,
        seed: int | None = None,
    ) -> None:
        if isinstance(env, str):
            env = _make(env, DEFAULT_NUM_ENVS if num_envs is None else num_envs, env_kwargs or {})
        else:
            _check_ready(env, num_envs, env_kwargs)
        self.envs = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        if seed is not None:
            self.seed(seed)

    @property
    def dataset(self) -> Dataset:
        """The data, with `to_data` and `from_data` between network and data units."""
        return self.envs.dataset

    @property
    def table(self) -> StepTable:
        """The step table, K steps."""
        return self.envs.table

    @property
    def critic(self) -> Critic:
        """The newest reward function."""
        return self.envs.critic

    @property
    def denoiser(self) -> Denoiser | None:
        """The pretrained network; None where none is given and none is shipped."""
        return self.envs.denoiser

    @property
    def action_mode(self) -> str:
        """What an action means: "step" or "residual"."""
        return self.envs.action_mode

    def reset(self) -> Observation:
        """Start all environments; a seed given since the last reset fixes every later draw."""
        starts = self._starts()
        observation, _ = self.envs.reset(seed=self._seeds[0])
        if starts is not None:
            x, given = starts
            observation, _ = self.envs.reset(options={"x": x, "reset_mask": given})
        self._reset_seeds()
        self._reset_options()
        return self._observation(*_to_host(self._parts(observation)))

    def _starts(self) -> tuple[Tensor, NDArray[np.bool_]] | None:
        """The states (n, *shape) that `set_options` gave and the environments (n,) it gave one for; None for none."""
        wanted = [checked_options(options, ["x"]) for options in self._options]
        given = np.array(["x" in options for options in wanted])
        if len(wanted) != self.num_envs:
            raise ValueError(
                f"set_options received {len(wanted)} dicts for {self.num_envs} environments. Give one dict for all of "
                "them, or a list with one for each."
            )
        if not given.any():
            return None
        shape, device = self.dataset.shape, self.dataset.device
        nothing = torch.zeros(shape, device=device)
        rows = [tensor_of(START, one["x"], shape, device) if "x" in one else nothing for one in wanted]
        return torch.stack(rows), given

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Hand over the actions (n, *shape) of the next `step_wait`."""
        host = torch.from_numpy(np.ascontiguousarray(actions, np.float32))
        self._actions = host.to(self.dataset.device, non_blocking=True)

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], Infos]:
        """Make the step; environments that end are started anew, as SB3 expects."""
        observation, reward, terminated, _, infos = self.envs.step(self._actions)
        parts = [reward, terminated]
        if "final_obs" in infos:
            scores = infos["final_info"]
            last = self._parts(infos["final_obs"])[0]
            parts += [last, scores["critic_score"], scores["data_score"]]
        now = self._parts(observation)
        host = _to_host([*now, *parts])
        rewards, dones, *final = host[len(now) :]
        ended = dones[:, 0] > 0
        end_infos: Infos = [{} for _ in range(self.num_envs)]
        if final:
            self._fill(end_infos, ended, rewards[:, 0], *final)
        return self._observation(*host[: len(now)]), rewards[:, 0], ended, end_infos

    def _parts(self, observation: Any) -> list[Tensor]:
        """The tensors of an observation: x and step, or the flat one."""
        return [observation] if self.envs.observation == "flat" else [observation["x"], observation["step"]]

    def _observation(self, x: NDArray[np.float32], step: NDArray[np.float32] | None = None) -> Observation:
        if step is None:
            return x
        return {"x": x.reshape(self.num_envs, *self.dataset.shape), "step": step[:, 0].astype(np.int64)}

    def _fill(
        self,
        infos: Infos,
        ended: NDArray[np.bool_],
        rewards: NDArray[np.float32],
        last: NDArray[np.float32],
        critic_score: NDArray[np.float32],
        data_score: NDArray[np.float32],
    ) -> None:
        """The infos of the environments that ``ended``; only an episode's last reward is not 0."""
        num_steps = self.table.num_steps
        flat = self.envs.observation == "flat"
        samples = last if flat else last.reshape(self.num_envs, *self.dataset.shape)
        for i in np.flatnonzero(ended):
            infos[i] |= {
                "terminal_observation": samples[i] if flat else {"x": samples[i], "step": np.int64(num_steps)},
                "TimeLimit.truncated": False,
                "episode": {"r": float(rewards[i]), "l": num_steps},
                "critic_score": float(critic_score[i, 0]),
                "data_score": float(data_score[i, 0]),
            }

    def evaluation_copy(self, num_envs: int | None = None) -> DDPMShortcutVecEnv:
        """Environments of the same task that share this one's critic and never train it: for an EvalCallback.

        Environments made by id have a critic of their own, which is untrained. ``num_envs``: None takes this one's.
        """
        return DDPMShortcutVecEnv(self.envs.evaluation_copy(num_envs))

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One picture of all particles, (H, W, 3); None without a render mode."""
        pictures = self.envs.render()
        return [None if pictures is None else pictures[0]]

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """The batch's one attribute, once for every index."""
        return [getattr(self.envs, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Set the batch's one attribute; ValueError for some of the environments alone."""
        self._check_all(indices, "set_attr")
        setattr(self.envs, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call the batch's method once; its result stands in the list n times. ValueError for some alone."""
        self._check_all(indices, "env_method")
        return [getattr(self.envs, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Indices = None
    ) -> list[bool]:
        """False: no single environment is there to be wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def _check_all(self, indices: Indices, method: str) -> None:
        if sorted(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(
                f"{method} was called for environments {indices!r}, but the {self.num_envs} environments are one "
                "object and would all be affected. Leave indices out."
            )


def _make(env_id: str, num_envs: int, env_kwargs: Mapping[str, Any]) -> DDPMShortcutVectorEnv:
    kwargs = {**env_kwargs, "array_type": "torch", "autoreset_mode": AutoresetMode.SAME_STEP}
    envs = gym.make_vec(env_id, num_envs=num_envs, **kwargs)
    if not isinstance(envs, DDPMShortcutVectorEnv):
        raise TypeError(f"{env_id!r} makes a {type(envs).__name__}; the adapter is for a DDPMShortcutVectorEnv.")
    return envs


def _check_ready(envs: DDPMShortcutVectorEnv, num_envs: int | None, env_kwargs: Mapping[str, Any] | None) -> None:
    if num_envs not in (None, envs.num_envs) or env_kwargs:
        raise ValueError(
            f"The ready environment has num_envs = {envs.num_envs} and its own keywords; received num_envs = "
            f"{num_envs!r} and env_kwargs = {env_kwargs!r} beside it. Leave both out, or give an id instead."
        )
    if envs.array_type != "torch" or envs.autoreset_mode is not AutoresetMode.SAME_STEP:
        raise ValueError(
            f"The adapter needs array_type='torch' and autoreset_mode=SAME_STEP; received array_type="
            f"{envs.array_type!r} and {envs.autoreset_mode}. Make the environment so, or give the adapter its id."
        )


def _to_host(parts: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """All ``parts`` (n, ...) in one copy from the device, each an array (n, width) of its own; ints below 2^24 stay."""
    flat = [part.reshape(len(part), -1).float() for part in parts]
    together = torch.cat(flat, dim=1).numpy(force=True)
    ends = np.cumsum([part.shape[1] for part in flat])
    return [part.copy() for part in np.split(together, ends[:-1], axis=1)]
