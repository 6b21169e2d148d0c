"""Random streams by name: the one place where a seed becomes the seeds of generators.

Each stream is a branch of numpy's `SeedSequence` of the user's seed, so streams of different names, and streams of one
name under different seeds, share nothing. (Seeds that are added up do: "seed + 1" of seed 0 is seed 1 itself.) The
points of generated data sets have branches of their own, see `diffusion_env.data.dataset`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

STREAMS: Mapping[str, int] = {
    # of an agent
    "weights": 100,  # initial weights of the value network
    "rollout": 101,  # noise of the steps that are trained on
    "minibatch": 102,  # which transitions a policy step takes
    "sampling": 103,  # noise of predict and sample, of any algorithm and of the untouched sampler
    "logging": 104,  # data points that diagnostics look at, anew in each iteration
    "relabelling": 105,  # data points that a replay buffer's rewards are measured against
    # of an environment
    "environment": 110,  # start noise and data batches
    "critic": 111,  # the critic's initial weights, and its draws once an environment was seeded
    "critic draws": 112,  # random points of a critic's own penalty, until an environment is seeded
    # of an evaluation
    "evaluation samples": 120,  # noise of the sampler that is measured
    "evaluation directions": 121,  # of the sliced distance, also in learning curves and tuning
    "evaluation critic": 122,  # batches of a critic that is trained anew
    # of pretraining
    "pretraining weights": 130,
    "pretraining batches": 131,
}
"""What is drawn from each stream, and the number of its branch. Numbers are never used again for something else."""


def stream_seed(seed: int, name: str, index: int = 0) -> int:
    """The seed, below 2^63, of the stream called ``name`` of a user's ``seed`` >= 0; KeyError for an unknown name.

    ``index`` >= 0 tells apart streams of one name, such as those of different iterations.
    """
    branch = np.random.SeedSequence(seed, spawn_key=(STREAMS[name], index))
    return int(branch.generate_state(1, np.uint64)[0] >> np.uint64(1))


def stream(seed: int, name: str, device: torch.device | str = "cpu", index: int = 0) -> torch.Generator:
    """A generator on ``device`` that draws the stream called ``name`` of a user's ``seed``; see `stream_seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name, index))
