"""One seam for both kinds of algorithm: train an entry on a task, and hand over a sampler, its critic and its costs.

A run that diverges is a result, not a crash; see `agents.runs.divergence`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import Tensor

from agents.algorithms.presets import PRESETS, preset
from agents.core.ipm_agent import IPMAgent
from agents.runs.callbacks import SamplerEvaluation, SeededSample
from agents.runs.divergence import divergence
from agents.sb3.callbacks import CriticSchedule, SB3Evaluation
from agents.sb3.counting import NetworkEvaluations
from agents.sb3.registry import SB3_ALGORITHMS, make_sb3
from agents.sb3.samplers import sb3_sampler
from agents.tuning.trials import sb3_keywords
from agents.zoo import agent_class
from benchmarks.comparison.grids import NUM_ENVS, Entry, Task
from benchmarks.comparison.protocol import Protocol
from diffusion_env.critics import Critic
from diffusion_env.data.dataset import Dataset
from diffusion_env.evaluation.protocol import Sample


@dataclass(frozen=True)
class Trained:
    """What a training run leaves behind."""

    sample: Sample
    critic: Critic
    dataset: Dataset
    diverged: str
    """How it diverged; "" if it did not."""
    costs: dict[str, Any]
    """timesteps, network_evaluations, train_cpu_seconds, train_seconds, curve."""


def settings(entry: Entry) -> dict[str, Any]:
    """Every hyper-parameter of ``entry``, JSON."""
    if entry.algorithm in PRESETS:
        return asdict(preset(entry.algorithm, **entry.changes))
    if entry.algorithm in SB3_ALGORITHMS:
        row = SB3_ALGORITHMS[entry.algorithm]
        own = {"action_mode": row.action_mode, "learning_rate": row.learning_rate, **row.hyperparameters}
        return {**own, **entry.changes}
    return {}


def train(entry: Entry, task: Task, seed: int, total_timesteps: int, protocol: Protocol) -> Trained:
    """Train ``entry`` on ``task`` for ``total_timesteps`` environment steps."""
    run = _train_agent if entry.algorithm in PRESETS else _train_sb3
    env_kwargs = {"dataset": task.dataset, "num_steps": task.num_steps, "critic": entry.critic}
    return run(entry, env_kwargs, seed, total_timesteps, protocol)


def _train_agent(
    entry: Entry, env_kwargs: dict[str, Any], seed: int, total_timesteps: int, protocol: Protocol
) -> Trained:
    name = PRESETS[entry.algorithm].agent
    config = preset(entry.algorithm, **entry.changes)
    agent = agent_class(name)(config=config, num_envs=NUM_ENVS, env_kwargs=env_kwargs, seed=seed)
    iterations = total_timesteps / (config.n_critic * NUM_ENVS * env_kwargs["num_steps"])
    watch = SamplerEvaluation(math.ceil(iterations / protocol.curve_points), protocol.curve_samples)
    diverged = divergence(lambda: agent.learn(total_timesteps, callback=watch), agent.sample)
    costs = _costs(agent, watch, agent.network_evaluations)
    return Trained(_seeded(agent.sample), agent.envs.critic, agent.envs.dataset, diverged, costs)


def _train_sb3(
    entry: Entry, env_kwargs: dict[str, Any], seed: int, total_timesteps: int, protocol: Protocol
) -> Trained:
    keywords = sb3_keywords(entry.changes)
    model, env = make_sb3(entry.algorithm, NUM_ENVS, env_kwargs, seed, hyperparameters=keywords)
    counter = NetworkEvaluations(model)
    watch = SB3Evaluation(math.ceil(total_timesteps / protocol.curve_points), protocol.curve_samples, counter=counter)
    draw = _uncounted(sb3_sampler(model), counter)
    diverged = divergence(lambda: model.learn(total_timesteps, callback=[CriticSchedule(), watch]), draw)
    costs = _costs(model, watch, int(counter))
    counter.remove()
    return Trained(_seeded(draw), env.critic, env.dataset, diverged, costs)


def _uncounted(sample: SeededSample, counter: NetworkEvaluations) -> SeededSample:
    def draw(n: int, seed: int) -> Tensor:
        with counter.paused():
            return sample(n, seed)

    return draw


def _costs(model: IPMAgent | BaseAlgorithm, watch: SamplerEvaluation, network_evaluations: int) -> dict[str, Any]:
    clock = watch.clock
    return {
        "timesteps": model.num_timesteps,
        "network_evaluations": network_evaluations,
        "train_cpu_seconds": clock.cpu_seconds,
        "train_seconds": clock.seconds,
        "curve": [{key: getattr(point, key) for key in ("num_timesteps", "sw2")} for point in watch.history],
    }


def _seeded(sample: SeededSample) -> Sample:
    """The same samples from a generator: it draws the seed."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return sample(n, int(torch.randint(2**31, (), generator=generator, device=generator.device)))

    return draw
