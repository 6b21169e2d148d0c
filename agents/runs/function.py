"""A bare function of a user as an algorithm: ``(task, total_timesteps, seed) -> sampler``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from agents.core.algorithm import Algorithm, Changes, SeededSample, refuse_unknown
from agents.core.policy import DenoisingPolicy
from agents.core.sanity import with_warning
from agents.core.spaces import Space, around
from agents.core.task import Task
from agents.runs.saving import made_and_restored
from agents.runs.untouched import Untouched
from diffusion_env.checkpoints import CheckpointError, load_module
from diffusion_env.samplers.denoiser import Denoiser
from diffusion_env.samplers.tables import StepTable

Sampler = DenoisingPolicy | tuple[StepTable, Denoiser] | SeededSample
"""What the function may return. The last kind, any callable (n, seed) -> samples (n, *shape) in data units, cannot be
saved."""


class FunctionRun(Untouched):
    """Trains by one call of ``function``; before that it is the untouched sampler."""

    network_evaluations = None

    def __init__(
        self,
        name: str,
        task: Task,
        seed: int,
        function: Callable[..., Sampler],
        settings: Mapping[str, Any],
        tensorboard_log: str | Path | None = None,
    ) -> None:
        """``settings``: keywords of ``function`` beside its three arguments."""
        super().__init__(task, seed, tensorboard_log)
        self.name = name
        self.function, self.settings, self._pretrained = function, dict(settings), self.network
        self._drawn_by: SeededSample | None = None

    def train(self, total_timesteps: int) -> None:
        """Call the function and take its sampler. Raises ValueError for what is none."""
        found = self.function(self.task, total_timesteps, self.seed, **self.settings)
        self._drawn_by = None
        if isinstance(found, DenoisingPolicy):
            self.table, self.network = found.deployed_table, found.net
        elif isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], StepTable):
            self.table, self.network = found
        elif callable(found):
            self._drawn_by = found
        else:
            raise ValueError(
                f"{self.name} returned {type(found).__name__}, which is no sampler. Return a DenoisingPolicy, a pair "
                "(step table, network), or a function (n, seed) -> samples in data units."
            )

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """n samples (n, *shape) in data units from ``generator``, which is on the task's device."""
        if self._drawn_by is None:
            return super().draw(n, generator)
        return self._drawn_by(n, int(torch.randint(2**31, (), generator=generator, device=generator.device)))

    def sample(self, n: int, seed: int) -> Tensor:
        """n samples (n, *shape) in data units."""
        return super().sample(n, seed) if self._drawn_by is None else with_warning(self._drawn_by(n, seed))

    def sampler_state(self) -> Any:
        """Step table and weights, None before ``learn``.

        Raises CheckpointError for a sampler that is a function, and for a network that is not built as the task's own.
        """
        if self._drawn_by is not None:
            raise CheckpointError(
                f"The sampler that {self.name} returned is a function (n, seed) -> samples, and a file holds no code. "
                "To save it, return a DenoisingPolicy or a pair (step table, network)."
            )
        if self.num_timesteps == 0:
            return None
        weights, own = (module_state(network) for network in (self.network, self._pretrained))
        if {name: part.shape for name, part in weights.items()} != {name: part.shape for name, part in own.items()}:
            raise CheckpointError(
                f"The network that {self.name} returned is not built as the task's denoiser, and a file holds no code "
                "to build it by. To save it, return a trained copy of the task's denoiser."
            )
        columns = {f.name: getattr(self.table, f.name) for f in fields(StepTable) if f.init}
        return {"table": columns, "weights": weights}

    def set_sampler_state(self, state: Any) -> None:
        """Take back what `sampler_state` gave."""
        if state is not None:
            self.table = StepTable(**state["table"]).to(self.dataset.device)
            network = copy.deepcopy(self._pretrained)
            assert isinstance(network, nn.Module)
            load_module(network, state["weights"], "its network")
            self.network = network


def module_state(network: Any) -> dict[str, Tensor]:
    """The weights (any shape) by name; CheckpointError for what is no ``nn.Module``."""
    if not isinstance(network, nn.Module):
        raise CheckpointError(f"Only the weights of an nn.Module can be saved; received {type(network).__name__}.")
    return network.state_dict()


@dataclass(frozen=True)
class FunctionEntry:
    """A function ``(task, total_timesteps, seed) -> sampler`` of a user, or the sampler that nobody trained."""

    name: str
    """As tables and folders call it."""
    source: str
    """Where it comes from."""
    function: Callable[..., Any] | None
    """None for the untouched sampler."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed: the function's keywords after its three arguments."""
        if self.function is None:
            return {}
        parameters = list(signature(self.function).parameters.values())[3:]
        return {p.name: p.default for p in parameters if p.default is not Parameter.empty}

    def settings(self, changes: Changes) -> dict[str, Any]:
        """Every hyper-parameter with ``changes``, JSON; ValueError names unknown ones."""
        refuse_unknown(self.name, changes, self.defaults)
        return {**self.defaults, **changes}

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The algorithm; before ``learn`` it is the untouched sampler."""
        settings = self.settings(changes or {})
        if self.function is None:
            return Untouched(task, seed, tensorboard_log)
        return FunctionRun(self.name, task, seed, self.function, settings, tensorboard_log)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return made_and_restored(self, path, device, env_kwargs, tensorboard_log)

    def space(self, task: Task) -> Space:
        """What tuning may change: the function's attribute ``space``, nothing where it has none."""
        return around([getattr(self.function, "space", {})], self.defaults)
