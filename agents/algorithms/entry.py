"""A subclass of `IPMAgent` as an entry of the zoo."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agents.algorithms.spaces import agent_space
from agents.core.algorithm import Algorithm, Changes, refuse_unknown
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.spaces import Space, around
from agents.core.task import Task
from diffusion_env import ENV_ID
from diffusion_env.assembly import usable_device


@dataclass(frozen=True)
class OwnEntry:
    """An agent of this package or a subclass of `IPMAgent` of a user."""

    name: str
    """As tables and folders call it: the preset, or the name of the class."""
    source: str
    """Where it comes from."""
    agent: type[IPMAgent]
    config: AgentConfig
    """Its hyper-parameters before changes."""

    @property
    def defaults(self) -> dict[str, Any]:
        """Every hyper-parameter that can be changed, with its value before changes."""
        return asdict(self.config)

    @property
    def before(self) -> dict[str, Any]:
        """Every hyper-parameter as a run had it before the field existed: the class's own default."""
        return asdict(type(self.config)())

    def settings(self, changes: Changes) -> dict[str, Any]:
        """Every hyper-parameter with ``changes``, JSON; ValueError names unknown ones."""
        return asdict(self._config(changes))

    def make(
        self, task: Task, seed: int, changes: Changes | None = None, tensorboard_log: str | Path | None = None
    ) -> Algorithm:
        """The agent, made for ``task`` with ``seed`` and ``changes`` of its hyper-parameters."""
        config, device = self._config(changes or {}), usable_device(task.device)
        return self.agent(ENV_ID, config, task.num_envs, task.env_kwargs, seed, tensorboard_log, device)

    def load(
        self, path: str | Path, device: str, env_kwargs: Changes | None, tensorboard_log: str | Path | None
    ) -> Algorithm:
        """See `load_agent`."""
        return self.agent.load(path, env_kwargs, tensorboard_log, device)

    def space(self, task: Task) -> Space:
        """What tuning may change for samplers of at most ``task.num_steps`` steps."""
        own: Space | None = getattr(self.agent, "space", None)
        return agent_space(self.config, task.num_steps, task.num_envs) if own is None else around([own], self.defaults)

    def _config(self, changes: Changes) -> AgentConfig:
        refuse_unknown(self.name, changes, self.defaults)
        return replace(self.config, **changes)
