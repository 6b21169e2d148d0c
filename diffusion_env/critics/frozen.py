"""A reward that does not learn, behind the same methods as one that does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from diffusion_env.critics.base import Critic, Penalty


class FrozenCritic(Critic):
    """Any function from events (N, *shape) to scores (N,), for example a trained critic or a reward of one's own.

    The function sees a tensor with one batch dimension of any size N >= 1, float32, network units, and gives a tensor.
    `update` measures and changes nothing.
    """

    name = "frozen"
    in_step = True

    def __init__(self, reward: Callable[[Tensor], Tensor], shape: Sequence[int] | None = None) -> None:
        """`shape` is the shape of one event; None takes a critic's own, and checks nothing for a function."""
        super().__init__(reward.shape if isinstance(reward, Critic) else shape)
        self.function = reward
        self.config = {"name": reward.name, "config": reward.config} if isinstance(reward, Critic) else {}

    def forward(self, x: Tensor) -> Tensor:
        """Scores (*batch,) of events x (*batch, *shape): the reward function's."""
        self.check_events(x, "events")
        if self.shape is None or isinstance(self.function, Critic):
            return self.function(x)
        batch = x.shape[: x.ndim - len(self.shape)]
        events = x.reshape(-1, *self.shape)  # one batch dimension, whatever the caller's
        scores: Any = self.function(events)
        if not isinstance(scores, Tensor):
            raise TypeError(
                f"{critic_title(self)} gave a {type(scores).__name__} for events of shape {tuple(events.shape)}, but "
                f"it takes a tensor and must give a tensor of shape ({len(events)},), one score per event. Compute it "
                "with torch; around a function of numpy arrays, put lambda x: "
                "torch.as_tensor(f(x.numpy(force=True)), dtype=x.dtype, device=x.device)."
            )
        if scores.shape != events.shape[:1]:
            raise ValueError(
                f"{critic_title(self)} gave scores of shape {tuple(scores.shape)} for events of shape "
                f"{tuple(events.shape)}, but it must give one score per event, of shape ({len(events)},). Reduce over "
                "the dimensions of the event only."
            )
        return scores.reshape(batch)

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        """Measure the gap on real (N, *shape), fake (M, *shape). `penalty` is ignored: nothing can move."""
        self.check_batch(real, "real batch")
        self.check_batch(fake, "fake batch")
        ipm = self.distance(real, fake)
        return {"critic_loss": -ipm, "ipm": ipm, "grad_norm": 0.0}

    def save(self, path: str | Path) -> Path:
        """As `Critic.save`; TypeError for a plain function."""
        if not isinstance(self.function, Critic):
            raise TypeError(
                f"The frozen critic of {self.function!r} cannot be saved: a checkpoint holds numbers, not "
                "code, and only a critic of this package can be built again from it. Keep the function in "
                "your own module and pass it to make_critic again."
            )
        return super().save(path)


def critic_title(critic: Critic) -> str:
    """What errors call a critic: "The critic 'energy'", or "The reward function 'my_reward'"."""
    if isinstance(critic, FrozenCritic) and not isinstance(critic.function, Critic):
        function = critic.function
        return f"The reward function {getattr(function, '__qualname__', type(function).__name__)!r}"
    return f"The critic {getattr(critic, 'name', type(critic).__name__)!r}"
