"""The rows of the toy table: what is run, and the published number beside it.

All on the swiss roll (data units: scikit-learn's roll / 20). Numbers are sliced W2 x 100 with 100 projections on
10,000 points; "paper" is Fan & Lee 2023, table 1, where it could be read, else the official code's own output.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from agents.algorithms.presets import preset
from agents.core.config import AgentConfig

Prior = Literal["calibrated", "published"]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    """Unique; also the folder of its results."""
    prior: Prior
    """calibrated: the shipped network, started where alpha_bar is ~0. published: the paper's schedule and units."""
    num_steps: int
    """K."""
    sampler: str
    """Name of the step table."""
    expected: str = ""
    """The published or officially measured SW2 x 100, "" where there is none."""
    config: AgentConfig | None = None
    """Hyper-parameters of SFT-PG; None leaves the network untouched."""
    critic: str = "energy"
    """The reward that trains it."""
    total_timesteps: int = 0
    """Environment steps of training."""
    large: bool = True
    """Whether the 100,000-point metric is computed too (too slow for 1000 steps)."""


NUM_ENVS = 128
SHORT_STEPS, FULL_STEPS = 4_000_000, 10_000_000
PAPER_STEPS = 4_800 * preset("sft_pg_paper").n_critic * NUM_ENVS * 10
"""4,800 policy steps, each after 5 rollouts of 128 trajectories of 10 steps: the official 300 epochs."""

OURS = Row("sft_pg", "calibrated", 10, "ddpm", config=preset("sft_pg"))
PAPER = Row(
    "sft_pg_paper", "published", 10, "published_toy", config=preset("sft_pg_paper"), total_timesteps=PAPER_STEPS
)

TOY: tuple[Row, ...] = (
    Row("floor", "calibrated", 0, "", "0.69"),
    Row("ddpm_10", "calibrated", 10, "ddpm"),
    Row("ddim_10", "calibrated", 10, "ddim"),
    Row("ddpm_100", "calibrated", 100, "ddpm"),
    Row("ddpm_1000", "calibrated", 1000, "ddpm", large=False),
    replace(OURS, name="sft_pg_short", total_timesteps=SHORT_STEPS),
    replace(OURS, name="sft_pg_full", total_timesteps=FULL_STEPS),
    Row("published_ddpm_10", "published", 10, "published_toy", "8.29"),
    Row("published_ddpm_100", "published", 100, "published_toy", "2.36 / 2.33"),
    Row("published_ddpm_1000", "published", 1000, "published_toy", "1.78", large=False),
    replace(PAPER, name="published_sft_pg_b", critic="baseline", expected="0.64 / 0.85"),
)


def find(rows: tuple[Row, ...], names: list[str]) -> tuple[Row, ...]:
    """The rows called ``names``, all of them for an empty list; ValueError lists the names there are."""
    unknown = sorted(set(names) - {row.name for row in rows})
    if unknown:
        raise ValueError(f"Unknown rows {unknown}. Choose from {[row.name for row in rows]}.")
    return tuple(row for row in rows if not names or row.name in names)
