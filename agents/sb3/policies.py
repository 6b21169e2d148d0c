r"""The pretrained denoiser inside stable-baselines3's actor-critic, for ``action_mode="step"``.

Letters: k the row of the step table, x[k] the state, D the number of components of x. The Gaussian law of a row,
N(mean, std^2 I) over x[k+1], is the law N((mean - x_coef x[k]) / action_scale, (std / action_scale)^2 I) over actions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor, nn

from agents.core.rollout import required_denoiser
from agents.core.value import ValueNet
from agents.sb3.vec_env import DDPMShortcutVecEnv
from diffusion_env.networks.bodies import body_name
from diffusion_env.samplers.denoiser import Denoiser, ask_at_steps
from diffusion_env.samplers.tables import StepTable


class ParticleFeatures(BaseFeaturesExtractor):
    """(B, D + K + 1): the flattened x, then the one-hot step."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        x, step = observation_space["x"], observation_space["step"]
        assert isinstance(x, spaces.Box) and isinstance(step, spaces.Discrete)
        super().__init__(observation_space, math.prod(x.shape) + int(step.n))

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """From SB3's preprocessed observation; its steps are one-hot already."""
        return torch.cat([observations["x"].flatten(1), observations["step"].flatten(1)], dim=1)


class DenoisingActor(nn.Module):
    """The mean (B, D) of a sampler's "step" actions at `ParticleFeatures` (B, D + K + 1), and their std per row.

    The mean of x[k+1] is x_coef x[k] + eps_coef eps, so the mean action is eps_coef eps / action_scale.
    """

    time: Tensor
    eps_gain: Tensor
    log_std: Tensor  # (K,)

    def __init__(self, denoiser: Denoiser, table: StepTable, learn_std: bool, min_std: float = 0.0) -> None:
        super().__init__()
        if not isinstance(denoiser, nn.Module):
            raise TypeError(f"A policy needs a trainable denoiser (an nn.Module); received {type(denoiser).__name__}.")
        self.net = copy.deepcopy(denoiser).requires_grad_(True)  # shipped networks are loaded frozen
        self.shape, self.dim = tuple(denoiser.shape), math.prod(denoiser.shape)
        row = table.rows(torch.arange(table.num_steps), 0)
        self.register_buffer("time", table.time)
        self.register_buffer("eps_gain", row.eps_coef / row.action_scale)
        log_std = (row.std.clamp(min=min_std) / row.action_scale).log()
        if learn_std:
            self.log_std = nn.Parameter(log_std)
        else:  # not a frozen parameter: TRPO asks for the gradient of every parameter
            self.register_buffer("log_std", log_std)

    def forward(self, features: Tensor) -> Tensor:
        """See the class; each entry of the batch may be in a row of its own."""
        x, k = features[:, : self.dim].unflatten(1, self.shape), self.rows(features)
        eps = ask_at_steps(self.net, x, self.time, k)
        return self.eps_gain[k].unsqueeze(1) * eps.flatten(1)

    def rows(self, features: Tensor) -> Tensor:
        """The row (B,) each entry is in; a finished sample, which no action moves, counts for the last."""
        return features[:, self.dim :].argmax(dim=1).clamp(max=len(self.time) - 1)


class ParticleValue(nn.Module):
    """V (B, 1) at `ParticleFeatures` (B, D + K + 1), by a body that sees x unflattened; see `ValueNet`."""

    def __init__(self, shape: tuple[int, ...], num_steps: int, width: int, depth: int, body: str) -> None:
        """``shape`` of one event; ``num_steps``: K. The initial weights follow from the global seed, as SB3's do."""
        super().__init__()
        self.shape, self.dim = shape, math.prod(shape)
        generator = torch.Generator().manual_seed(int(torch.randint(2**62, ())))
        self.net = ValueNet(shape, num_steps + 1, width, depth, generator, body)  # a finished sample has a step too

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        x, k = features[:, : self.dim].unflatten(1, self.shape), features[:, self.dim :].argmax(dim=1)
        return self.net(x, k).unsqueeze(1)


class DenoisingActorCriticPolicy(MultiInputActorCriticPolicy):
    """SB3's actor-critic whose actor is a copy of the pretrained sampler; for PPO, A2C and TRPO in "step" mode.

    Before training it acts exactly as the pretrained sampler does (but for SB3's clipping at the box, and for
    ``min_std``). The denoiser trains; the value network sees x and the one-hot step: side by side in SB3's own
    multi-layer perceptron, or with x as an image in another body (`ParticleValue`). SB3 pickles ``policy_kwargs`` when
    it saves a model.

    Args:
        observation_space: the environment's.
        action_space: the environment's.
        lr_schedule: SB3's; one learning rate for actor and value network.
        denoiser: what to start from; it is copied, never trained itself.
        table: the step table, every row with noise.
        learn_std: whether the std of each row is learned too (one number per row); otherwise it stays.
        min_std: the table's standard deviations are raised to at least this, in network units; 0 leaves them.
        value_arch: units of the value network's hidden layers; in a body other than "mlp" all alike.
        value_body: of the value network, a name in `diffusion_env.networks.bodies.BODIES`; None chooses by x's shape.
        use_sde: must be False.
        optimizer_class: of all parameters.
        optimizer_kwargs: its arguments, but for the learning rate.

    Raises ValueError for a table with a noiseless row, which has no log-probability, for a ``min_std`` that is no
    finite number >= 0, for hidden layers that the body does not take, and for ``use_sde``.
    """

    action_net: DenoisingActor
    action_dist: DiagGaussianDistribution
    value_net: nn.Module  # type: ignore[assignment]  # a Linear in SB3

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Box,
        lr_schedule: Schedule,
        denoiser: Denoiser,
        table: StepTable,
        learn_std: bool = False,
        min_std: float = 0.0,
        value_arch: Sequence[int] = (128, 128),
        value_body: str | None = None,
        use_sde: bool = False,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        _check(table, use_sde, min_std)
        self._actor_kwargs: dict[str, Any] = {
            "denoiser": denoiser,
            "table": table,
            "learn_std": learn_std,
            "min_std": min_std,
        }
        self._value_arch = tuple(value_arch)
        self._value_body = body_name(observation_space["x"].shape or (), value_body)
        if self._value_body != "mlp" and len(set(value_arch)) != 1:
            raise ValueError(
                f"The value network was given hidden layers {list(value_arch)}, but in the body {self._value_body!r} "
                "all have one width. Give for example value_arch=(128, 128), or value_body='mlp'."
            )
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch={"pi": [], "vf": list(value_arch) if self._value_body == "mlp" else []},
            activation_fn=nn.SiLU,
            features_extractor_class=ParticleFeatures,
            normalize_images=False,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # After SB3's orthogonal initialisation, which would overwrite the pretrained weights.
        self.action_net = DenoisingActor(**self._actor_kwargs)
        if self._value_body != "mlp":
            shape, num_steps = self.action_net.shape, len(self.action_net.time)
            width, depth = self._value_arch[0], len(self._value_arch)
            self.value_net = ParticleValue(shape, num_steps, width, depth, self._value_body)
        del self.log_std  # SB3's is one number for all rows
        arguments: dict[str, Any] = {"lr": lr_schedule(1), **self.optimizer_kwargs}
        self.optimizer = self.optimizer_class(self.parameters(), **arguments)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> DiagGaussianDistribution:
        # The latent is the features: there are no layers before `DenoisingActor`.
        log_std = self.action_net.log_std[self.action_net.rows(latent_pi)].unsqueeze(1)
        return self.action_dist.proba_distribution(self.action_net(latent_pi), log_std)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        theirs = super()._get_constructor_parameters()
        kept = ("observation_space", "action_space", "lr_schedule", "use_sde", "optimizer_class", "optimizer_kwargs")
        value = {"value_arch": self._value_arch, "value_body": self._value_body}
        return {key: theirs[key] for key in kept} | self._actor_kwargs | value


def denoising_policy_kwargs(env: DDPMShortcutVecEnv, learn_std: bool = False, min_std: float = 0.0) -> dict[str, Any]:
    """``policy_kwargs`` that start `DenoisingActorCriticPolicy` from the environment's own sampler.

    Raises ValueError where there is no pretrained denoiser, and for an environment that is not in "step" mode.
    """
    mode = env.action_mode
    if mode != "step":
        raise ValueError(
            f"DenoisingActorCriticPolicy gives 'step' actions but the environment's action_mode is {mode!r}, where "
            "SB3's own 'MultiInputPolicy' already starts at the pretrained sampler. Use that, or action_mode='step'."
        )
    denoiser = required_denoiser(env.envs)
    return {"denoiser": denoiser, "table": env.table, "learn_std": learn_std, "min_std": min_std}


def _check(table: StepTable, use_sde: bool, min_std: float) -> None:
    if not 0 <= min_std < float("inf"):
        raise ValueError(f"min_std must be a finite number >= 0, in network units; received {min_std!r}.")
    if use_sde:
        raise ValueError("The sampler's own noise is the exploration: DenoisingActorCriticPolicy needs use_sde=False.")
    if not all(table.noisy_rows):
        raise ValueError(
            f"Rows {[k for k, noisy in enumerate(table.noisy_rows) if not noisy]} of the table {table.name!r} have std "
            "0: their actions have no log-probability. Give every row noise (sampler='ddpm', or DDIM with eta > 0 and "
            "final_std > 0)."
        )
