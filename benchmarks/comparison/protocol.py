"""How much the comparison measures, and on which seeds: sizes in one dataclass, which every result is stored with."""

from __future__ import annotations

from dataclasses import dataclass, replace

from agents.runs.callbacks import CURVE_SEED
from diffusion_env.config import EvaluationConfig

EVALUATION_SEED = 50_000
"""Evaluation sets of the comparison; curves are measured on seed 10,000, the toy table on 20,000 and more."""
SETS_APART = 100
FLOOR_SETS = 5
UNUSED = 2  # the least number of points of a metric whose value is not kept


@dataclass(frozen=True)
class Protocol:
    """Sizes of the measurements of a run."""

    evaluations: int = 2
    """Evaluation sets per training seed, at the end of a run."""
    num_samples: int = 20_000
    """Samples, and reference points, per set."""
    w1_samples: int = 2_500
    """Points per side of the exact W1 and the MMD."""
    critic_steps: int = 100
    """Steps that the held-out critic is trained."""
    curve_points: int = 10
    """Measurements of SW2 during a run, but for the one at its start."""
    curve_samples: int = 5_000
    """Samples, and reference points, of each of them."""

    def final(self, seed: int) -> list[EvaluationConfig]:
        """Of the end of a run: the first set with everything, the others with what is cheap."""
        seeds = [EVALUATION_SEED + SETS_APART * seed + i for i in range(self.evaluations)]
        first = EvaluationConfig(
            num_samples=self.num_samples,
            w1_samples=self.w1_samples,
            seeds=(seeds[0],),
            held_out_critic=True,
            critic_steps=self.critic_steps,
        )
        others = replace(first, w1_samples=UNUSED, seeds=tuple(seeds[1:]), held_out_critic=False)
        return [first, others] if others.seeds else [first]

    def curve(self) -> EvaluationConfig:
        """Of the untouched sampler, on the points of every learning curve."""
        return EvaluationConfig(num_samples=self.curve_samples, w1_samples=UNUSED, seeds=(CURVE_SEED,))

    def curve_floor(self) -> EvaluationConfig:
        """Of fresh data; one pair of sets would leave a third of the floor to chance."""
        return replace(self.curve(), seeds=tuple(range(CURVE_SEED, CURVE_SEED + FLOOR_SETS)))
