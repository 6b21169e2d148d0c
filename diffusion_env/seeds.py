"""Random streams by name: the one place where a seed becomes the seeds of generators.

Each stream is a branch of numpy's `SeedSequence` of the user's seed, so streams of different names, and streams of one
name under different seeds, share nothing. (Seeds that are added up do: "seed + 1" of seed 0 is seed 1 itself.)
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

STREAMS: Mapping[str, int] = {
    # of an agent
    "weights": 0,  # initial weights of value network and averages
    "rollout": 1,  # noise of the steps that are trained on
    "minibatch": 2,  # which transitions a policy step takes
    "sampling": 3,  # noise of predict and sample
    "logging": 4,  # data points that diagnostics look at
    # of an environment
    "environment": 10,  # start noise and data batches
    "critic": 11,  # the critic's initial weights and its own draws
    # of an evaluation
    "evaluation samples": 20,  # noise of the sampler that is measured
    "evaluation directions": 21,  # of the sliced distance
    "evaluation critic": 22,  # weights and batches of a critic that is trained anew
    "evaluation classifier": 23,
    # of pretraining
    "pretraining weights": 30,
    "pretraining batches": 31,
}
"""What is drawn from each stream, and the number of its branch. Numbers are never used again for something else."""


def stream_seed(seed: int, name: str) -> int:
    """The seed, below 2^63, of the stream called ``name`` of a user's ``seed`` >= 0; KeyError for an unknown name."""
    branch = np.random.SeedSequence(seed, spawn_key=(STREAMS[name],))
    return int(branch.generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on ``device`` that draws the stream called ``name`` of a user's ``seed``."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
