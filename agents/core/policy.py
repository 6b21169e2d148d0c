r"""The sampler as a stochastic policy, and the value function beside it.

Letters: k the denoising step; x[k] the state before it; p_theta(x[k+1] | x[k]) its Gaussian law with the policy's own
network; action = (x[k+1] - x_coef[k] x[k]) / action_scale[k], the environment's "step" action.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from agents.core.config import DeployedStd
from diffusion_env.samplers.denoiser import Denoiser, Levels
from diffusion_env.samplers.law import GaussianStep
from diffusion_env.samplers.tables import StepTable


class DenoisingPolicy(nn.Module):
    """p_theta: a denoiser on a step table; ``net`` is the module given, not a copy.

    ``table`` is the environment's. In training the policy's standard deviations are the table's, raised to ``min_std``
    where they are smaller; with ``learn_std`` each is multiplied by exp(log_std_ratio[k]), a parameter of shape (K,),
    as in Yoon et al. 2024. What explores is not what is handed out: ``deployed_std`` names the standard deviations of
    the finished sampler (as `AgentConfig.deployed_std`; Ren et al. 2024, DPPO, separate the two in the same way).
    """

    def __init__(
        self,
        denoiser: Denoiser,
        table: StepTable,
        min_std: float = 0.0,
        learn_std: bool = False,
        deployed_std: DeployedStd | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(denoiser, nn.Module):
            raise TypeError(f"A policy needs a trainable denoiser (an nn.Module); received {type(denoiser).__name__}.")
        self.net = denoiser
        self.shape, self.table = tuple(denoiser.shape), table
        self.levels = Levels(table.time)
        self.widened = replace(table, std=table.std.clamp(min=min_std)) if min_std > 0 else table
        self.log_std_ratio: nn.Parameter | None
        self.register_parameter("log_std_ratio", nn.Parameter(torch.zeros_like(table.std)) if learn_std else None)
        self.deployed_std = deployed_std or ("training" if learn_std else "table")
        self.num_evaluations = 0
        """Network evaluations so far, one for each x of each call; those that checkpointing repeats count again."""

    def forward(self, x: Tensor, k: int | Tensor) -> GaussianStep:
        """The law of x[k+1] given x[k] (*batch, *shape); ``k`` an int or steps that broadcast to (*batch,)."""
        event_dims = len(self.shape)
        self.num_evaluations += x.shape[: x.ndim - event_dims].numel()
        law = self.widened.law(k, x, self.levels.ask(self.net, x, k), event_dims)
        if self.log_std_ratio is None:
            return law
        ratio = self.log_std_ratio[k].exp()
        return replace(law, std=law.std * ratio.reshape(ratio.shape + (1,) * event_dims))

    def deployed(self, x: Tensor, k: int | Tensor) -> GaussianStep:
        """As `forward`, of x (*batch, *shape), with the standard deviations that are handed out."""
        return self.deployed_table.law(k, x, self.levels.ask(self.net, x, k), len(self.shape))

    @property
    def noiseless_steps(self) -> list[int]:
        """The steps k whose std is 0: point masses, which have no density."""
        return [k for k, noisy in enumerate(self.widened.noisy_rows) if not noisy]

    @property
    def sampling_table(self) -> StepTable:
        """The step table with the standard deviations of training: walked with ``net``, it is the policy that acts."""
        if self.log_std_ratio is None:
            return self.widened
        return replace(self.widened, std=self.widened.std * self.log_std_ratio.detach().exp())

    @property
    def deployed_table(self) -> StepTable:
        """The step table with the standard deviations that are handed out: walked with ``net``, it is the sampler."""
        if self.deployed_std == "training":
            return self.sampling_table
        if self.deployed_std == "table":
            return self.table
        return replace(self.table, std=torch.cat([self.table.std[:-1], torch.zeros_like(self.table.std[-1:])]))

    def action(self, x: Tensor, x_next: Tensor, k: int | Tensor) -> Tensor:
        """The "step" action that takes x[k] to ``x_next``, all (*batch, *shape); ``k`` as above."""
        row = self.table.rows(k, len(self.shape))
        return (x_next - row.x_coef * x) / row.action_scale


def all_steps(num_steps: int, device: torch.device) -> Tensor:
    """0 ... K-1 as (K, 1): the step k of every state in a batch of whole trajectories (K, B, *shape)."""
    return torch.arange(num_steps, device=device).unsqueeze(-1)
