"""Small tasks for the agents, as objects and as files; everything here runs in milliseconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.logger import KVWriter, Logger
from torch import Tensor, nn

from agents.algorithms.presets import preset
from agents.core.config import AgentConfig
from agents.core.ipm_agent import IPMAgent
from agents.core.persistence import agent_state
from agents.core.task import Task
from agents.tuning.trials import Problem
from agents.zoo import agent_class
from diffusion_env.critics import EnergyCritic
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import make_schedule

MEAN, STD = (1.0, -0.5), 0.5


@pytest.fixture(scope="session")
def points_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "points.npz"
    np.savez(path, x=np.random.default_rng(0).normal(size=(3_000, 2)))
    return path


@pytest.fixture(scope="session")
def denoiser_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = EpsMLP((2,), make_schedule("cosine", 50), 16, 2, torch.Generator().manual_seed(0))
    return network.save(tmp_path_factory.mktemp("weights") / "denoiser.safetensors")


@pytest.fixture(scope="session")
def small_kwargs(points_file: Path, denoiser_file: Path) -> dict[str, object]:
    """Keywords of an environment whose episodes take two cheap steps."""
    return {"dataset": str(points_file), "denoiser": str(denoiser_file), "num_steps": 2}


@pytest.fixture(scope="session")
def gaussian() -> Dataset:
    """Points of N(MEAN, STD^2 I) in the plane; data units are network units."""
    points = torch.tensor(MEAN) + STD * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    return Dataset("gaussian", points[:15_000], points[15_000:], torch.zeros(2), 1.0)


@pytest.fixture
def denoiser() -> EpsMLP:
    """A small untrained network."""
    return EpsMLP((2,), make_schedule("cosine", 100), width=16, depth=2)


@pytest.fixture
def standard_normal() -> EpsMLP:
    """The exact denoiser of data N(0, I): the network's v is 0."""
    network = EpsMLP((2,), make_schedule("cosine"), width=32, depth=2)
    nn.init.zeros_(network.net.out.weight)
    nn.init.zeros_(network.net.out.bias)
    return network


@pytest.fixture(scope="session")
def small_config() -> Callable[..., AgentConfig]:
    """``small_config(algo, **changes)``: the row of the preset table, with small networks and groups."""

    def small(algo: str, **changes: Any) -> AgentConfig:
        sizes: dict[str, Any] = {"n_critic": 2, "value_width": 16, "value_depth": 1}
        sizes |= {"n_critic_exponent": 0.0, "learning_rate_exponent": 0.0}
        sizes |= {"group_size": 4} if algo == "grpo" else {}
        sizes |= {"ema_width": None} if "ema_decay" in changes else {}
        unlike_stein = {"minibatch_size", "surrogate", "advantage_normalization"} & set(changes)
        sizes |= {"baseline": "value"} if algo == "sft_pg" and unlike_stein else {}
        return preset(algo, **sizes | changes)

    return small


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict | list | tuple):
        for key, item in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(item, f"{path}/{key}")
    else:
        yield path, node


@pytest.fixture(scope="session")
def everything() -> Callable[[IPMAgent], dict[str, Any]]:
    """``everything(agent)``: every tensor and number that a run carries by name, and samples of its sampler."""

    def snapshot(agent: IPMAgent) -> dict[str, Any]:
        samples = {"seeded samples": agent.sample(16, seed=7), "next samples": agent.sample(16)}
        return dict(_leaves({**agent_state(agent), **samples}))

    return snapshot


@pytest.fixture(scope="session")
def differences() -> Callable[[dict[str, Any], dict[str, Any]], list[str]]:
    """``differences(one, other)``: names of what differs by a bit between two snapshots of `everything`."""

    def equal(a: Any, b: Any) -> bool:
        return a.dtype == b.dtype and torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)

    def compare(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
        assert one.keys() == other.keys()
        return [name for name in one if not equal(one[name], other[name])]

    return compare


class _Lines(KVWriter):
    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.lines.append(dict(key_values))


@pytest.fixture
def record() -> Callable[[IPMAgent], list[dict[str, Any]]]:
    """``record(agent)``: the list that the agent's log will fill, a line of metrics each."""

    def start(agent: IPMAgent) -> list[dict[str, Any]]:
        writer = _Lines()
        agent.set_logger(Logger(folder=None, output_formats=[writer]))
        return writer.lines

    return start


@pytest.fixture
def make_agent(
    gaussian: Dataset, denoiser: EpsMLP, small_config: Callable[..., AgentConfig]
) -> Callable[..., IPMAgent]:
    """``make_agent(config, num_steps, num_envs, seed, critic, tensorboard_log, algo, **more env_kwargs)``."""

    def make(
        config: AgentConfig | None = None,
        num_steps: int = 3,
        num_envs: int = 8,
        seed: int | None = 0,
        critic: Any = None,
        tensorboard_log: Any = None,
        algo: str = "sft_pg",
        **env_kwargs: Any,
    ) -> IPMAgent:
        config = small_config(algo) if config is None else config
        critic = EnergyCritic((2,), width=16) if critic is None else critic
        env_kwargs = {"dataset": gaussian, "denoiser": denoiser, "num_steps": num_steps, "critic": critic, **env_kwargs}
        return agent_class(algo)("DDPMShortcut-v0", config, num_envs, env_kwargs, seed, tensorboard_log)

    return make


@pytest.fixture
def small_task(small_kwargs: dict[str, object]) -> Task:
    """The small environment as a task of eight environments."""
    return Task(**small_kwargs, num_envs=8)  # type: ignore[arg-type]


@pytest.fixture
def problem(small_task: Task) -> Callable[..., Problem]:
    """``problem(algo, iterations, tasks=, seeds=, fixed=, num_samples=)``: of tuning, small enough to be trained."""

    def make(algo: str = "sft_pg", iterations: int = 2, **changes: Any) -> Problem:
        sizes: dict[str, Any] = {"tasks": (small_task,), "seeds": (1_000,), "num_samples": 50}
        return Problem(algo, total_timesteps=iterations * 8 * 2 * 5, **sizes | changes)

    return make
