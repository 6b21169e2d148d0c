"""What several test files share: functions and small classes; fixtures are in the conftest files."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.critics import Critic, make_critic
from diffusion_env.critics.base import Penalty
from diffusion_env.data.dataset import Dataset
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.denoisers.unet import UNetDenoiser
from diffusion_env.networks.layers import Convolution
from diffusion_env.process import DenoisingProcess, Outcome
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable
from diffusion_env.vector_env import DDPMShortcutVectorEnv

if TYPE_CHECKING:  # the tests of the environment need not import the agents
    from stable_baselines3 import PPO

    from agents.core.ipm_agent import IPMAgent
    from agents.core.losses import Metrics
    from agents.core.rollout import Trajectories

ENV_ID = "DDPMShortcut-v0"
Step = tuple[Any, Any, Any, Any, dict[str, Any]]
"""What `step` returns: observation, reward, terminated, truncated, info."""


def rows(points: Tensor) -> set[bytes]:
    """The points (N, *shape) as a set, to look for equal ones."""
    return {row.tobytes() for row in points.flatten(1).numpy()}


def seeded(seed: int = 0) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype | None = None) -> Tensor:
    """Standard normal numbers (*shape), the same for the same seed."""
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def small_network(shape: tuple[int, ...] = (2,), seed: int = 0, width: int = 16) -> EpsMLP:
    """An untrained denoiser on the cosine schedule."""
    return EpsMLP(shape, make_schedule("cosine"), width, 2, seeded(seed))


def small_unet(shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, output: str = "v_prediction") -> UNetDenoiser:
    """An untrained U-Net of two resolutions on the cosine schedule; it needs diffusers."""
    return UNetDenoiser(shape, make_schedule("cosine"), 8, 2, seeded(seed), output)


def has_convolutions(network: nn.Module) -> bool:
    """Whether any of its layers is one."""
    return any(isinstance(layer, Convolution) for layer in network.modules())


def noise_levels(table: StepTable) -> NDArray[np.float64]:
    """alpha_bar of x[0] ... x[K], (K + 1,), from the table alone: x_coef is sqrt(a_s / a_t) at every step."""
    return table.start * np.cumprod(np.append(1.0, table.x_coef.double().numpy() ** 2))


def nearness(x: Tensor) -> Tensor:
    """A fixed reward (*batch,) of points (*batch, 2): minus the distance to (1, -0.5), the centre of `gaussian`."""
    return -(x - x.new_tensor([1.0, -0.5])).norm(dim=-1)


def wave(x: Tensor) -> Tensor:
    """A smooth fixed reward (*batch,) of points (*batch, 2), whose gradient depends on the point."""
    return x[..., 0].sin() + 0.3 * x[..., 1].square()


def make_process(
    data: Dataset, num_envs: int = 4, num_steps: int = 3, critic: str | Critic = "energy", seed: int = 0, **kwargs: Any
) -> DenoisingProcess:
    """A seeded process; ``sampler`` in ``kwargs`` names the table."""
    table = make_table(kwargs.pop("sampler", "ddpm"), make_schedule("cosine"), num_steps)
    process = DenoisingProcess(data, table, make_critic(critic, data.shape), num_envs, **kwargs)
    process.seed(seed)
    return process


def noise(process: DenoisingProcess, seed: int) -> Tensor:
    """Standard normal actions (B, *shape)."""
    return normal(*process.x.shape, seed=seed)


def run_episode(process: DenoisingProcess, seed: int = 0) -> Outcome:
    """The last step's outcome of one episode of all particles, under standard normal actions."""
    process.reset()
    for k in range(process.table.num_steps):
        outcome = process.step(noise(process, 100 * seed + k))
    return outcome


def flat_state(critic: Critic) -> list[Tensor]:
    """Copies of the critic's tensors."""
    return [value.clone() for value in critic.state_dict().values() if isinstance(value, Tensor)]


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether two lists hold equal tensors."""
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


class RecordingCritic(Critic):
    """Scores 0 and remembers what it was trained on."""

    name = "recording"

    def __init__(self, shape: tuple[int, ...], wants_trajectory: bool = False) -> None:
        super().__init__(shape)
        self.wants = wants_trajectory
        self.real: list[Tensor] = []
        self.fake: list[Tensor] = []
        self.trajectories: list[Tensor] = []

    @property
    def wants_trajectory(self) -> bool:  # type: ignore[override]  # a constant of the class elsewhere
        return self.wants

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1).sum(1)

    def update(self, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
        self.real.append(real)
        self.fake.append(fake)
        return {"ipm": 0.0}

    def trajectory_penalty(self, xs: Tensor) -> None:
        self.trajectories.append(xs)


def single_actions(env: gym.Env[Any, Any], n: int, seed: int = 0) -> NDArray[np.float32]:
    """n standard normal actions (n, *shape)."""
    assert env.action_space.shape is not None
    return np.random.default_rng(seed).standard_normal((n, *env.action_space.shape)).astype(np.float32)


def single_episode(
    env: gym.Env[Any, Any], seed: int | None = None, noise: int = 0
) -> tuple[list[Any], float, dict[str, Any]]:
    """All x, the return and the last info of one episode."""
    obs, _ = env.reset(seed=seed)
    xs, total = [obs["x"]], 0.0
    num_steps = env.observation_space["step"].n - 1  # type: ignore[index]  # a Dict space
    for action in single_actions(env, num_steps, noise):
        obs, reward, terminated, truncated, info = env.step(action)
        xs.append(obs["x"])
        total += float(reward)
    assert terminated and not truncated
    return xs, total, info


def make_vector(data: Dataset, num_envs: int = 3, num_steps: int = 2, **kwargs: Any) -> DDPMShortcutVectorEnv:
    """A vector environment of a few copies and steps."""
    return DDPMShortcutVectorEnv(num_envs, data, num_steps, **kwargs)


def vector_actions(n: int, num_envs: int = 3, seed: int = 0) -> NDArray[np.float32]:
    """n standard normal actions of all environments, (n, num_envs, 2)."""
    return np.random.default_rng(seed).standard_normal((n, num_envs, 2)).astype(np.float32)


def leaves(nested: Any) -> Iterator[Any]:
    """Every array of an observation or of infos."""
    if isinstance(nested, dict):
        for value in nested.values():
            yield from leaves(value)
    elif isinstance(nested, np.ndarray) and nested.dtype == object:  # final_obs of numpy batches, all ended
        single = nested.tolist()
        flat = not isinstance(single[0], dict)
        yield from leaves(
            np.stack(single) if flat else {key: np.stack([one[key] for one in single]) for key in single[0]}
        )
    else:
        yield nested


def final_x(infos: dict[str, Any]) -> NDArray[np.float32]:
    """The finished samples (n, *shape) of a numpy batch in SAME_STEP of which all environments ended."""
    return np.stack([obs["x"] for obs in infos["final_obs"]])


def assert_same_steps(ours: list[Step], theirs: list[Step]) -> None:
    """Two lists of steps hold the same numbers, in arrays of any type."""
    for left, right in zip(ours, theirs, strict=True):
        pairs = zip(left, right, strict=True)
        for a, b in [pair for one, other in pairs for pair in zip(leaves(one), leaves(other), strict=True)]:
            np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def assert_paragraph(error: BaseException, *words: str) -> None:
    """The message is one paragraph and holds all ``words``."""
    message = str(error)
    assert "\n" not in message
    for word in words:
        assert word in message


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """An IDX file of uint8."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def files_on_the_map(readme: Path) -> set[str]:
    """Python files in the first column of the page's tables."""
    return set(re.findall(r"^\| `(\w+\.py)`", readme.read_text(encoding="utf-8"), flags=re.MULTILINE))


def files_beside(readme: Path) -> set[str]:
    """Python files of the page's folder, without ``__init__.py``."""
    return {path.name for path in readme.parent.glob("*.py")} - {"__init__.py"}


def policy_step(agent: IPMAgent, newest: Trajectories) -> Metrics:
    """The first step on theta of an iteration."""
    return agent.update_policy(newest, agent.advantages(newest), first=True)


def small_ppo(env: Any, num_steps: int = 3) -> PPO:
    """stable-baselines3's PPO with one epoch on rollouts of one episode."""
    from stable_baselines3 import PPO

    return PPO("MultiInputPolicy", env, n_steps=num_steps, batch_size=9, n_epochs=1, seed=0, device="cpu")


MISSING = object()
"""In `forged`: take the entry away."""


def forged(node: Any, way: Sequence[Any], value: Any) -> Any:
    """A copy of nested dicts, lists and tuples with ``value`` at the end of the way, or without that entry."""
    first, *rest = way
    if not rest and value is MISSING:
        return {key: one for key, one in node.items() if key != first}
    new = forged(node[first], rest, value) if rest else value
    if isinstance(node, dict):
        return {**node, first: new}
    return type(node)(new if index == first else one for index, one in enumerate(node))


def refused(load: Callable[[], Any]) -> str:
    """The message of the CheckpointError, "" where it loads; any other error is raised."""
    try:
        load()
    except CheckpointError as error:
        assert "\n\n" not in str(error)
        return str(error)
    return ""


def measured_only(critic: Critic, real: Tensor, fake: Tensor, penalty: Penalty | None = None) -> dict[str, float]:
    """The ``update`` of a critic that learns nothing: it measures the gap."""
    return {"critic_loss": 0.0, "ipm": critic.distance(real, fake), "grad_norm": 0.0}
