"""Speed under stable-baselines3: ``python -m benchmarks.speed.sb3``. Run it on an idle machine; one torch thread.

Environment steps per second of whole runs (rollouts and updates) on the swiss roll, K = 10. PPO meets the native batch
through the adapter and eight single environments in a DummyVecEnv, with one policy, one network, equal rollouts,
minibatches and epochs; our clipped agent, DDPO, makes as many policy steps on equal batches in its own loop, as it
stands and with a value function, which PPO has too.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
import tyro
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from agents import DDPO, preset
from agents.algorithms.config import Baseline
from agents.sb3.policies import DenoisingActorCriticPolicy, denoising_policy_kwargs
from agents.sb3.vec_env import DDPMShortcutVecEnv
from benchmarks.comparison.manifest import manifest
from diffusion_env import ENV_ID
from diffusion_env.checkpoints import write_json

NUM_STEPS = 10
WANTED = 10.0
"""How many times as fast as DummyVecEnv x 8 the adapter should be."""
WANTED_OF_OURS = 0.75
"""The least share of our own clipped agent's rate that PPO should reach through the adapter."""

Learn = Callable[[int], Any]
"""Train for so many environment steps, going on from where the last call ended."""


@dataclass(frozen=True)
class SB3SpeedConfig:
    """What is timed."""

    num_envs: int = 1024
    """Size of the native batch; a rollout is one episode of each of them."""
    dummy_envs: int = 8
    """Single environments in the DummyVecEnv; they make as many steps per rollout."""
    n_epochs: int = 2
    """PPO's passes over a rollout; DDPO makes as many policy steps."""
    repeats: int = 5
    """Timed runs of each contestant, in turn; the median is reported."""
    rollouts: int = 10
    """Rollouts per timed run of those on the native batch."""
    dummy_rollouts: int = 1
    """Rollouts per timed run of those in the DummyVecEnv."""
    output: Path = Path(__file__).parent.parent / "results" / "sb3_speed.json"
    """Where the figures go."""

    @property
    def rollout(self) -> int:
        """Environment steps in a rollout."""
        return self.num_envs * NUM_STEPS


@dataclass(frozen=True)
class Contestant:
    """One way to train."""

    name: str
    """Row of the table."""
    make: Callable[[SB3SpeedConfig], Learn]
    """Builds it, untimed."""
    dummy: bool = False
    """Whether it runs in the DummyVecEnv."""


def adapter(config: SB3SpeedConfig, action_mode: str) -> DDPMShortcutVecEnv:
    """The native batch."""
    return DDPMShortcutVecEnv(num_envs=config.num_envs, env_kwargs={"action_mode": action_mode}, seed=0)


def singles(config: SB3SpeedConfig, action_mode: str) -> DummyVecEnv:
    """Single environments, one after the other."""
    return DummyVecEnv([lambda: gym.make(ENV_ID, action_mode=action_mode)] * config.dummy_envs)


def ppo(config: SB3SpeedConfig, env: VecEnv, action_mode: str) -> Learn:
    """PPO with the denoising actor in "step" mode, with SB3's own in "residual" mode."""
    step = action_mode == "step"
    model = PPO(
        DenoisingActorCriticPolicy if step else "MultiInputPolicy",
        env,
        n_steps=config.rollout // env.num_envs,
        batch_size=config.rollout,
        n_epochs=config.n_epochs,
        gamma=1.0,
        policy_kwargs=denoising_policy_kwargs(adapter(SB3SpeedConfig(num_envs=1), "step")) if step else None,
        seed=0,
        device="cpu",
    )
    return lambda steps: model.learn(steps, reset_num_timesteps=False)


def ddpo(config: SB3SpeedConfig, baseline: Baseline) -> Learn:
    """Our own agent with PPO's clip: one rollout of the same size and as many policy steps on all of it."""
    changes: dict[str, Any] = {"n_critic": 1, "n_generator": config.n_epochs, "baseline": baseline}
    agent = DDPO(ENV_ID, preset("ddpo", **changes), config.num_envs, seed=0)
    return lambda steps: agent.learn(steps, reset_num_timesteps=False)


CONTESTANTS = [
    Contestant("PPO, adapter, residual", lambda c: ppo(c, adapter(c, "residual"), "residual")),
    Contestant("PPO, DummyVecEnv, residual", lambda c: ppo(c, singles(c, "residual"), "residual"), dummy=True),
    Contestant("PPO, adapter, step", lambda c: ppo(c, adapter(c, "step"), "step")),
    Contestant("PPO, DummyVecEnv, step", lambda c: ppo(c, singles(c, "step"), "step"), dummy=True),
    Contestant("DDPO, our agent, step", lambda c: ddpo(c, "none")),
    Contestant("DDPO with a value function, step", lambda c: ddpo(c, "value")),
]


def measure(config: SB3SpeedConfig, contestants: list[Contestant] = CONTESTANTS) -> dict[str, list[float]]:
    """Environment steps per second of every contestant, one figure per repeat, timed in turn."""
    learns = {c.name: c.make(config) for c in contestants}
    rates: dict[str, list[float]] = {c.name: [] for c in contestants}
    for learn in learns.values():
        learn(config.rollout)  # a warm-up
    for _ in range(config.repeats):
        for c in contestants:
            steps = config.rollout * (config.dummy_rollouts if c.dummy else config.rollouts)
            rates[c.name].append(steps / _seconds(learns[c.name], steps))
    return rates


def _seconds(learn: Learn, steps: int) -> float:
    started = time.perf_counter()
    learn(steps)
    return time.perf_counter() - started


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """Adapter over DummyVecEnv for each action mode, and over our agents: the median of the repeats' own ratios."""
    pairs = {mode: (f"PPO, adapter, {mode}", f"PPO, DummyVecEnv, {mode}") for mode in ("residual", "step")}
    ours = {name: ("PPO, adapter, step", name) for name in rates if name.startswith("DDPO")}
    return {
        key: statistics.median(a / b for a, b in zip(rates[one], rates[other], strict=True))
        for key, (one, other) in (pairs | ours).items()
    }


def table(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = ["| run | environment steps/s | all repeats |", "|---|---|---|"]
    for name, rates in result["rates"].items():
        lines.append(f"| {name} | {statistics.median(rates):,.0f} | {', '.join(f'{r:,.0f}' for r in rates)} |")
    ours = {name: ratio for name, ratio in result["ratios"].items() if name.startswith("DDPO")}
    found = ", ".join(f"{mode} {ratio:.1f}" for mode, ratio in result["ratios"].items() if mode not in ours)
    shares = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ours.items())
    return "\n".join(
        [
            *(*lines, "", f"Adapter over DummyVecEnv x {result['dummy_envs']} (wanted: {WANTED:.0f}): {found}."),
            *("", f"PPO, adapter, step, over our own clipped agent (wanted: {WANTED_OF_OURS}): {shares}."),
        ]
    )


def write_report(path: Path) -> str:
    """Write the table of the JSON at ``path`` beside it, as .md, and return it."""
    result = json.loads(path.read_text())
    machine = f"{result['machine']['processor']}, {result['machine']['cores']} cores, one torch thread"
    text = f"# Speed under stable-baselines3\n\nFrom {path.name}: {machine}.\n\n{table(result)}\n"
    path.with_suffix(".md").write_text(text)
    return text


def main(config: SB3SpeedConfig) -> None:
    """Time everything, write the JSON and beside it the table as Markdown."""
    torch.set_num_threads(1)
    rates = measure(config)
    sizes = {"num_envs": config.num_envs, "dummy_envs": config.dummy_envs, "n_epochs": config.n_epochs}
    write_json(config.output, {**manifest(), **sizes, "rates": rates, "ratios": ratios(rates)})
    print(write_report(config.output))


if __name__ == "__main__":
    main(tyro.cli(SB3SpeedConfig))
