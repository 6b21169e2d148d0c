"""A reward that does not learn, behind the same methods as one that does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import Tensor

from diffusion_env.critics.base import Critic, Penalty


class FrozenCritic(Critic):
    """Any function from events (*batch, *shape) to scores (*batch,), for example a trained critic or a reward
    of one's own. `update` measures and changes nothing."""

    name = "frozen"

    def __init__(self, reward: Callable[[Tensor], Tensor], shape: Sequence[int] | None = None) -> None:
        """`shape` is the shape of one event; None takes a critic's own, and checks nothing for a function."""
        super().__init__(reward.shape if isinstance(reward, Critic) else shape)
        self.reward = reward
        self.config = {"name": reward.name, "config": reward.config} if isinstance(reward, Critic) else {}

    def forward(self, x: Tensor) -> Tensor:
        """Scores (*batch,) of events x (*batch, *shape): the reward function's."""
        self.check_events(x, "events")
        scores = self.reward(x)
        if self.shape is not None and scores.shape != x.shape[: x.ndim - len(self.shape)]:
            raise ValueError(
                f"The reward function gave scores of shape {tuple(scores.shape)} for events of shape "
                f"{tuple(x.shape)}, but it must give one score per event, of shape "
                f"{tuple(x.shape[: x.ndim - len(self.shape)])}. Reduce over the dimensions of the event only."
            )
        return scores

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """Measure the gap on real (N, *shape), fake (M, *shape). `penalty` is ignored: nothing can move."""
        self.check_batch(real, "real batch")
        self.check_batch(fake, "fake batch")
        ipm = self.distance(real, fake)
        return {"critic_loss": -ipm, "ipm": ipm, "grad_norm": 0.0}

    def save(self, path: str | Path) -> Path:
        """As `Critic.save`; TypeError for a plain function."""
        if not isinstance(self.reward, Critic):
            raise TypeError(
                f"The frozen critic of {self.reward!r} cannot be saved: a checkpoint holds numbers, not "
                "code, and only a critic of this package can be built again from it. Keep the function in "
                "your own module and pass it to make_critic again."
            )
        return super().save(path)
