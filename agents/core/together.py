"""What many ranks need of an agent before it trains: equal parts, equal beginnings, and states that can be told apart.

Nothing here does anything where there is one process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from agents.core.persistence import data_digest
from agents.core.ranks import Ranks
from diffusion_env.critics import Critic


def check_parts(ranks: Ranks, num_envs: int, seed: int | None) -> None:
    """ValueError where ``num_envs`` trajectories have no equal parts, or the ranks would draw different seeds."""
    if num_envs % ranks.size:
        raise ValueError(
            f"The trajectories of a rollout are shared out equally: num_envs must be a multiple of the {ranks.size} "
            f"ranks; received {num_envs}."
        )
    if ranks.size > 1 and seed is None:
        raise ValueError(f"There are {ranks.size} ranks, which must start from the same weights: give a seed.")


def check_beginning(agent: Any) -> None:
    """ValueError, on all ranks, where they were not made alike: the error says in what; and for a critic whose training
    nothing keeps in step."""
    ranks: Ranks = agent.ranks
    if ranks.size == 1:
        return
    if agent.critic_learns and not agent.critic.in_step:
        raise ValueError(
            f"There are {ranks.size} ranks, and the update of the critic {agent.critic.name!r} does not say that it "
            "keeps the critic the same on all of them (Critic.in_step). Derive it from TrainedCritic, train with a "
            "fixed critic, env_kwargs=dict(critic=..., train_critic=False), or in one process."
        )
    own = beginning(agent)
    found = {name: ranks.digests(bytes.fromhex(digest)) for name, digest in own.items()}
    wrong = {name: [i for i, one in enumerate(digests) if one != digests[0]] for name, digests in found.items()}
    if told := [f"{name} of rank(s) {others}" for name, others in wrong.items() if others]:
        shown = {name: found[name][ranks.rank].hex()[:12] for name, others in wrong.items() if others}
        raise ValueError(
            f"The ranks must start from the same, but different from rank 0 are: {'; '.join(told)}. Rank {ranks.rank} "
            f"has {', '.join(f'{name} {digest}' for name, digest in shown.items())}, data set "
            f"{agent.dataset.name!r} of {len(agent.dataset.train):,} training points. Give every rank the same files, "
            "options and seed."
        )


def beginning(agent: Any) -> Mapping[str, str]:
    """Digests, SHA-256 in hex, of what all ranks must have alike, by name."""
    options = json.dumps([agent.name, asdict(agent.config), agent.num_envs, agent.seed], sort_keys=True, default=str)
    return {
        "the data": data_digest(agent.dataset),
        "the options": hashlib.sha256(options.encode()).hexdigest(),
        "the pretrained network": weights_digest(agent.pretrained),
        "the critic": weights_digest(agent.critic),
        "the value function": weights_digest(agent.value),
    }


def weights_digest(network: nn.Module | Critic) -> str:
    """SHA-256 of the weights and buffers of ``network``, in hex."""
    digest = hashlib.sha256()
    for tensor in (*network.parameters(), *network.buffers()):
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy(force=True).tobytes())
    return digest.hexdigest()


def check_resumable(saved: int, now: int) -> None:
    """ValueError where a run was ``saved`` by another number of ranks than there is ``now``."""
    if saved != now:
        program = "ddpm-shortcut" if saved == 1 else f"torchrun --nproc_per_node={saved} -m agents.cli"
        raise ValueError(
            f"The run was saved by {saved} rank(s), and now there are {now}, with which it would not go on exactly. "
            f"Resume it with as many as before: {program} train --resume FOLDER. In Python, "
            "learn(..., reset_num_timesteps=False) goes on from the weights, with new episodes."
        )
