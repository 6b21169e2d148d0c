"""A class in the manner of stable-baselines3 as an entry of the zoo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.utils import LinearSchedule

from agents.core.algorithm import Algorithm, Changes, refuse_unknown
from agents.core.spaces import Space, around
from agents.core.task import Task
from agents.runs.saving import made_and_restored
from agents.sb3.registry import SB3Algorithm, build, keywords_of
from agents.sb3.run import SB3Run
from diffusion_env.assembly import usable_device

GIVEN = ("seed", "device", "tensorboard_log", "_init_setup_model")
"""Keywords of the classes that are no hyper-parameters: the task, the seed and the caller give them."""


@dataclass(frozen=True)
class SB3Entry:
    """A class of stable-baselines3, of sb3-contrib, or of a user in their manner."""

    name: str
    """As tables and folders call it."""
    source: str
    """Where it comes from."""
    preset: SB3Algorithm

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed, with its value before changes."""
        keywords = keywords_of(self.preset.load_class())
        return {name: one for name, one in keywords.items() if name not in GIVEN} | self._own

    @property
    def _own(self) -> dict[str, Any]:
        preset = self.preset
        return {"action_mode": preset.action_mode, "learning_rate": preset.learning_rate, **preset.hyperparameters}

    def settings(self, changes: Changes) -> dict[str, Any]:
        """What differs from the class's own defaults, JSON, with ``changes``; ValueError names unknown ones, and
        words where the class has a number."""
        refuse_unknown(self.name, changes, self.defaults)
        words = {
            name: value
            for name, value in changes.items()
            if isinstance(value, str) and type(self.defaults[name]) in (int, float)
        }
        if words:
            raise ValueError(f"{self.name} takes numbers for {list(words)}; received {words}.")
        return {**self._own, **changes}

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The model in its environments, with the critic's schedule and a counter; the step size falls to zero."""
        self.settings(changes or {})
        # JSON has no tuples, and SB3 takes pairs such as train_freq only as tuples.
        keywords: dict[str, Any] = {
            name: tuple(one) if isinstance(one, list) else one for name, one in (changes or {}).items()
        }
        mode = keywords.pop("action_mode", self.preset.action_mode)
        if "learning_rate" in keywords:
            keywords["learning_rate"] = LinearSchedule(keywords["learning_rate"], 0.0, 1.0)
        log = None if tensorboard_log is None else str(tensorboard_log)
        usable_device(task.device)
        env_kwargs = {**task.env_kwargs, "action_mode": mode}
        try:
            model, env = build(self.preset, task.num_envs, env_kwargs, seed, task.device, log, keywords)
        except (TypeError, AttributeError, AssertionError, KeyError) as error:
            if not keywords:
                raise
            raise ValueError(
                f"{self.name} could not be made with the hyper-parameters {keywords} ({error}). Its own are "
                f"{self._own}; see the documentation of {self.source} for their types."
            ) from error
        return SB3Run(self.name, task, seed, dict(changes or {}), model, env)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return made_and_restored(self, path, device, env_kwargs, tensorboard_log, makes_envs=True)

    def space(self, task: Task) -> Space:
        """What tuning may change."""
        return around([getattr(self.preset.home, "space", self.preset.space)], self.defaults)
