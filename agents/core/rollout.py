"""The environments of an agent, and trajectories through them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from torch import Tensor, nn

from agents.core.policy import DenoisingPolicy
from agents.core.ranks import ALONE, Ranks
from diffusion_env.checks import NonFiniteActionError
from diffusion_env.critics import Critic
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.unseen_samples import num_updates
from diffusion_env.vector_env import DDPMShortcutVectorEnv


def make_envs(
    env_id: str, num_envs: int, env_kwargs: Mapping[str, Any], device: torch.device, ranks: Ranks = ALONE
) -> DDPMShortcutVectorEnv:
    """A rank's part of ``num_envs`` torch environments of an agent, which acts in Gaussian steps (action mode "step").

    ``train_critic`` says, here as everywhere, whether the critic learns. An agent makes the critic's updates itself, in
    the order of its algorithm, so the environments are always made without updates of their own. Nothing that the user
    passes is moved or changed: a denoiser on another device is copied; a critic on another device is refused with
    ValueError, because training a copy would leave the user's critic as it was.
    """
    if env_kwargs.get("action_mode", "step") != "step":
        raise ValueError(
            "An agent scores its own Gaussian steps and acts in action_mode 'step'; received "
            f"{env_kwargs['action_mode']!r}. Leave action_mode out of env_kwargs."
        )
    if env_kwargs.get("observation", "dict") != "dict":
        raise ValueError(
            f"An agent reads x and step; received observation={env_kwargs['observation']!r} in env_kwargs. Leave it "
            "out: flat observations are for algorithms that take one array."
        )
    kwargs = {**env_kwargs, "observation": "dict", "array_type": "torch", "device": device, "train_critic": False}
    denoiser, critic = kwargs.get("denoiser"), kwargs.get("critic")
    if isinstance(denoiser, nn.Module) and elsewhere(denoiser, device):
        kwargs["denoiser"] = copy.deepcopy(denoiser).to(device)
    if isinstance(critic, Critic) and (other := elsewhere(critic, device)):
        raise ValueError(
            f"The critic {critic.name!r} is on {other}, but the agent is on {device}. A critic that you pass is "
            f"trained in place and never moved: call critic.to({str(device)!r}) first, or give its name instead."
        )
    envs = gym.make_vec(env_id, num_envs=num_envs // ranks.size, **kwargs)
    if not isinstance(envs, DDPMShortcutVectorEnv):
        raise TypeError(f"{env_id!r} makes a {type(envs).__name__}; agents train a DDPMShortcutVectorEnv.")
    envs.process.shard = envs.critic.shard = ranks
    return envs


def elsewhere(module: nn.Module, device: torch.device) -> torch.device | None:
    """The device of a weight or buffer of ``module`` that is not on ``device``; None where all are."""
    wanted = torch.empty(0, device=device).device  # "cuda" is the current of several
    devices = (tensor.device for tensor in (*module.parameters(), *module.buffers()))
    return next((found for found in devices if found != wanted), None)


def required_denoiser(envs: DDPMShortcutVectorEnv) -> Denoiser:
    """The pretrained network to start from; ValueError where there is none."""
    if envs.denoiser is None:
        raise ValueError(
            f"The data set {envs.dataset.name!r} has no shipped denoiser to start from. Pretrain one (`ddpm-shortcut "
            "pretrain --dataset ... --output net.safetensors`) and pass env_kwargs=dict(denoiser='net.safetensors')."
        )
    return envs.denoiser


class Trajectories(NamedTuple):
    """B finished samples and the states on the way there; nothing here carries a gradient."""

    xs: Tensor  # (K + 1, B, *shape), x[0] ... x[K]
    log_prob: Tensor | None  # (K, B), log p(x[k+1] | x[k]) under the policy that acted; None where it was not asked for

    @property
    def x0(self) -> Tensor:
        """The finished samples x_0 = x[K], (B, *shape)."""
        return self.xs[-1]

    @property
    def scored(self) -> Tensor:
        """``log_prob`` (K, B); ValueError where the steps were not scored."""
        if self.log_prob is None:
            raise ValueError(
                "These trajectories carry no log_prob: they were collected for an algorithm with needs_density = "
                "False. Set needs_density = True on the class whose policy_loss uses log_prob."
            )
        return self.log_prob

    def parts(self, ranks: int = 1) -> list[Trajectories]:
        """Equal parts of about `CRITIC_BATCH` trajectories, counted on all ``ranks``, itself where there are no more:
        `num_updates` of them."""
        n = num_updates(self.xs.shape[1] * ranks)
        if n == 1:
            return [self]
        scores = [None] * n if self.log_prob is None else self.log_prob.tensor_split(n, dim=1)
        return [Trajectories(xs, score) for xs, score in zip(self.xs.tensor_split(n, dim=1), scores, strict=True)]


def concatenated(buffer: Sequence[Trajectories]) -> Trajectories:
    """The trajectories of several rollouts as one batch; scored if all are."""
    scores = [trajectories.log_prob for trajectories in buffer]
    log_prob = torch.cat([s for s in scores if s is not None], dim=1) if None not in scores else None
    return Trajectories(torch.cat([trajectories.xs for trajectories in buffer], dim=1), log_prob)


@torch.no_grad()
def collect(
    envs: DDPMShortcutVectorEnv,
    policy: DenoisingPolicy,
    x: Tensor,
    generator: torch.Generator,
    on_step: Callable[[bool, Tensor], bool],
    scored: bool = True,
    ranks: Ranks = ALONE,
) -> tuple[Trajectories | None, Tensor]:
    """Walk all environments from their start ``x`` (B, *shape) to the end of the episode.

    ``on_step(ended, reward)``, reward (B,), is called after each step. ``scored``: whether log_prob is computed;
    ValueError where a step has std 0, which has no density. Returns the trajectories and the next start (B, *shape);
    None instead of trajectories when ``on_step`` said stop. Raises FloatingPointError when the policy's action is not
    finite.
    """
    xs, log_probs = [x], []
    num_steps = policy.table.num_steps
    for k in range(num_steps):
        law = policy(x, k)
        wanted = law.at(ranks.normal(x.shape, generator, x.device))
        try:
            observation, reward, _, _, infos = envs.step(policy.action(x, wanted, k))
        except NonFiniteActionError as error:
            raise FloatingPointError(f"The policy's own action at step {k} was refused. {error}") from error
        x = infos["final_obs"]["x"] if "final_obs" in infos else observation["x"]
        xs.append(x)
        if scored:
            log_probs.append(law.log_prob(x))
        if not on_step(k == num_steps - 1, reward):
            return None, observation["x"]
    return Trajectories(torch.stack(xs), torch.stack(log_probs) if scored else None), observation["x"]
