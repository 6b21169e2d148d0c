"""The configuration that every agent has; nothing heavy is imported, so that ``--help`` stays quick.

Options that the papers combine freely are fields of their own. The named algorithms are in
`agents.algorithms.presets`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from diffusion_env.fields import Bounds, Count, Decay, Depth, Positive, Weight, Width, check_fields

Schedule = Literal["constant", "linear"]
Std = Literal["fixed", "learned"]
DeployedStd = Literal["training", "table", "mean"]
Reward = Literal["derivative", "score"]
Exponent = Annotated[float, Bounds(0.0, 2.0)]
"""A power of K; a file may not ask for 10 to the power of a billion."""


@dataclass(frozen=True)
class AgentConfig:
    """What every agent of algorithm 1's shape has: rollouts that teach critic and value, then steps on the sampler."""

    n_critic: Count = 5
    """Rollouts per iteration, each followed by steps on the critic and on the value function: one of each for about 128
    trajectories."""
    n_critic_exponent: Exponent = 0.0
    """n_critic is multiplied by K to this power, and rounded."""
    n_generator: Count = 1
    """Policy steps per iteration."""
    learning_rate: Weight = 6e-4
    """Adam's step size for the sampler's network."""
    learning_rate_exponent: Exponent = 0.0
    """learning_rate is divided by K to this power: a chain of K steps adds up K changes of the network."""
    critic_learning_rate: Weight = 2e-3
    """Adam's step size for the critic."""
    critic_data_batch: Count | None = None
    """Data points per step of the critic; None takes num_envs, at least 128."""
    critic_slope_penalty: Weight | None = None
    """Weight of the critic's slope penalty, divided by K, for a critic that leaves it open (see `EnergyCritic`): the
    fewer the steps, the farther samples are from the data at first. It falls as the step sizes do. None sets nothing.
    """
    value_learning_rate: Weight = 1e-3
    """Adam's step size for the value function."""
    adam_beta1: Decay = 0.5
    """Adam's decay of the mean gradient, for sampler and value function; with 0.9 sampler and critic oscillate."""
    adam_beta2: Decay = 0.99
    """Adam's decay of the mean squared gradient, for sampler and value function."""
    lr_schedule: Schedule = "linear"
    """How the three step sizes change over the run: constant, or linearly to zero."""
    critic_lr_schedule: Schedule | None = None
    """The same of the critic alone; None: lr_schedule. A critic whose steps fall too learns little at
    the end of a run, when the differences that are left are fine (benchmarks/DEFAULTS.md)."""
    max_grad_norm: Positive | None = 0.5
    """The policy gradient is scaled down to this Euclidean norm; None leaves it as it is."""
    ema_decay: Decay | None = 0.99
    """Decay per policy step of the averaged sampler used by predict, sample and evaluate; 0 keeps the newest."""
    ema_width: Annotated[float, Bounds(0.0, 0.28, open_low=True)] | None = None
    """Instead of ema_decay, which is None then: the width of the average as a share of the run so far, the standard
    deviation of its weights over policy steps (power-function average, Karras et al. 2024, arXiv 2312.02696, sec. 3.1).
    """
    kl_coef: Weight = 0.0
    """Weight of the KL divergence of each step from the pretrained sampler's, in nats (closed form)."""
    std: Std = "fixed"
    """Standard deviations of the steps: fixed as in the step table, or learned, one factor per step."""
    std_lr_scale: Weight = 100.0
    """Step size of a learned std, as a multiple of learning_rate."""
    min_std: Weight = 0.0
    """In training the step table's standard deviations are raised to at least this, in network units; 0 leaves them."""
    deployed_std: DeployedStd | None = None
    """Standard deviations of predict, sample and evaluate: training, those of training; table, the step table's; mean,
    the step table's without noise in the last step. None: training where std is learned, table where it is fixed."""
    reward: Reward = "score"
    """What the sampler raises: score, f; derivative, `Critic.reward`, that of the penalised distance, exact for the
    best critic, but with a slope of the wrong sign where a critic overshoots (f < - 1 / (2 gamma) for "energy")."""
    value_loss_weight: Weight = 1.0
    """Weight of the value error in the critic's loss, for critics that want it as their penalty ("baseline")."""
    value_width: Width = 128
    """Units in each hidden layer of the value function."""
    value_depth: Depth = 2
    """Hidden layers of the value function."""
    value_body: str | None = None
    """Network body of the value function, "mlp" or "conv"; None chooses by the shape of the data."""
    compile: bool = False
    """Whether torch.compile makes code of the networks in training. The first iterations are slow, and results differ
    in rounding."""

    def at_steps(self, num_steps: int) -> tuple[int, float]:
        """The number of rollouts per iteration and the sampler's step size at K = ``num_steps``."""
        rollouts = max(1, round(self.n_critic * num_steps**self.n_critic_exponent))
        return rollouts, self.learning_rate / num_steps**self.learning_rate_exponent

    def __post_init__(self) -> None:
        """TypeError or ValueError that names the field, what is allowed and what was received."""
        check_fields(self)
        if (self.ema_decay is None) == (self.ema_width is None):
            raise ValueError(
                "The averaged sampler has either ema_decay or ema_width, and the other is None; received "
                f"ema_decay={self.ema_decay!r} and ema_width={self.ema_width!r}."
            )


def checked_config(config: Any, wanted: type[AgentConfig], agent: str) -> Any:
    """``config`` if it is None or a ``wanted``, no subclass; TypeError otherwise, in words for the class ``agent``."""
    if config is None or type(config) is wanted:
        return config
    hint = f"write {wanted.__name__}(**config)" if isinstance(config, dict) else f"make a {wanted.__name__}"
    raise TypeError(
        f"{agent} takes a {wanted.__name__}; received a {type(config).__name__}. Its fields would be read as another "
        f"algorithm's: {hint}, or leave config out for {agent}.default_config()."
    )


def describe(config: Any) -> str:
    """The configuration, a line per field."""
    return "\n".join(f"{f.name:>24} = {getattr(config, f.name)!r}" for f in fields(config))
