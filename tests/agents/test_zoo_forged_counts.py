"""Counts and settings in the state of a saved algorithm: of another type or out of range, they are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch

from agents.core.task import Task
from agents.zoo import find, load_agent
from diffusion_env.checkpoints import load_checkpoint, save_checkpoint
from tests.support import forged, refused

OF_AN_AGENT: list[tuple[str, Any]] = [
    ("algorithm average n_averaged", torch.tensor(-1)),
    ("algorithm average n_averaged", torch.tensor(3.0)),
    ("algorithm policy net.out.bias", torch.zeros(2, dtype=torch.float64)),
    ("algorithm policy_optimizer state 0 step", torch.tensor(-1.0)),
    ("algorithm policy_optimizer state 0 step", torch.tensor(float("nan"))),
    ("algorithm policy_optimizer param_groups 0 params 1", True),
    ("algorithm policy_optimizer param_groups 0 lr", 10**400),
    ("algorithm evaluations 0", "text"),
    ("counters 0", True),
    ("counters 1", 2.5),
    ("critic network.0.directions", torch.zeros(2, 64).long()),
    ("envs x", torch.zeros(8, 2, dtype=torch.complex64)),
    ("envs k", torch.full((8,), -1)),
    ("envs critic_metrics ipm", "text"),
    ("next_start", torch.zeros(8, 2, dtype=torch.int64)),
    ("log lines", 1.5),
    ("log pending", {"rollout/ep_rew_mean": ["text", 0, []]}),
    ("log pending", {"rollout/ep_rew_mean": [1.0, 1, [3]]}),
]
OF_SAC: list[tuple[str, Any]] = [
    ("model counters num_timesteps", 2.5),
    ("model counters _n_updates", -1),
    ("model counters _current_progress_remaining", 2.0),
    ("model variables log_ent_coef", torch.zeros(())),
    ("model last 0 x", torch.zeros(8, 3)),
    ("model last 0 step", torch.zeros(8)),
    ("model last 1", None),
    ("model episodes 0 1", "text"),
    ("model replay actions", torch.zeros(1, 8, 2, dtype=torch.int64)),
    ("model envs pending 0", torch.zeros(1, 8, 3)),
    ("counts 0", None),
    ("random torch", torch.zeros(5056, dtype=torch.int64)),
    ("random numpy 0", "PCG64"),
    ("random numpy 1", torch.full((624,), -1)),
    ("random numpy 2", -1),
]


def way_of(words: str) -> list[str | int]:
    """The keys in a line of the tables above."""
    return [int(word) if word.isdigit() else word for word in words.split()]


@pytest.mark.parametrize(("algo", "forgeries"), [("sft_pg", OF_AN_AGENT), ("sac", OF_SAC)])
def test_counts_of_another_type_or_range_are_refused(
    algo: str, forgeries: list[tuple[str, Any]], small_task: Task, tmp_path: Path
) -> None:
    run = find(algo).make(small_task, 0, {"buffer_size": 64} if algo == "sac" else {})
    state, header = load_checkpoint(run.learn(1).save(tmp_path / "run"))
    load_agent(tmp_path / "run", trust_paths=True)  # as it was
    for words, value in forgeries:
        path = save_checkpoint(tmp_path / "forged", forged(state, way_of(words), value), header)
        message = refused(lambda path=path: load_agent(path, trust_paths=True))  # type: ignore[misc]
        assert "does not fit this" in message, (words, value)
