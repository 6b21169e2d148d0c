"""How many network evaluations a stable-baselines3 run costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor, nn

from agents.sb3.samplers import environment_in


class NetworkEvaluations:
    """Counts samples times forward passes of the networks that make a step, in rollouts and in updates.

    ``actor``: those of the model's actor (its target copy too); ``denoiser``: those of the environment's pretrained
    network, which "residual" mode asks in every step. ``int(counter)`` is their sum. Value networks do not count.

    The networks are watched by forward hooks until `remove`: environments that share one denoiser object count its
    evaluations together.
    """

    def __init__(self, model: BaseAlgorithm) -> None:
        self.actor = self.denoiser = 0
        self._counting = True
        handles = [actor.register_forward_hook(self._count_actor) for actor in _actors(model)]
        found = environment_in(model.get_env())
        if found.action_mode == "residual" and isinstance(found.denoiser, nn.Module):
            handles.append(found.denoiser.register_forward_hook(self._count_denoiser))
        self._handles = handles

    def __int__(self) -> int:
        return self.actor + self.denoiser

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        before, self._counting = self._counting, False
        try:
            yield
        finally:
            self._counting = before

    def remove(self) -> None:
        """Take the counter out of the networks."""
        for handle in self._handles:
            handle.remove()

    def _count_actor(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.actor += len(output) * self._counting

    def _count_denoiser(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self.denoiser += len(output) * self._counting


def _actors(model: BaseAlgorithm) -> list[nn.Module]:
    """The last layers of the actors: each of their forward passes goes through them once."""
    lasts = ("action_net", "actor.mu", "actor_target.mu")
    return [module for name, module in model.policy.named_modules() if name in lasts]
