"""The agents' own critic schedule, for algorithms of stable-baselines3."""

from __future__ import annotations

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import SubprocVecEnv

from agents.core.config import AgentConfig


class CriticSchedule(BaseCallback):
    """The environment's critic learns at a step size that falls linearly to zero over the run, as the agents' does.

    Args:
        learning_rate: at the start.

    Raises TypeError in a SubprocVecEnv, whose critics live in other processes.
    """

    def __init__(self, learning_rate: float = AgentConfig.critic_learning_rate) -> None:
        super().__init__()
        if not 0 <= learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be a finite number >= 0; received {learning_rate!r}.")
        self.learning_rate = learning_rate

    def _on_training_start(self) -> None:
        if isinstance(self.training_env.unwrapped, SubprocVecEnv):
            raise TypeError(
                "CriticSchedule cannot reach the critics of a SubprocVecEnv, which live in other processes. Train in "
                "DDPMShortcutVecEnv or DummyVecEnv, or leave the callback out."
            )
        self._total = self.locals["total_timesteps"]  # of a run that goes on: what was done before included

    def _on_rollout_start(self) -> None:
        left = 1 - self.model.num_timesteps / self._total
        for critic in {one.critic for one in self.training_env.get_attr("unwrapped")}:  # the adapter has one
            critic.set_learning_rate(self.learning_rate * max(0.0, left))

    def _on_step(self) -> bool:
        return True
