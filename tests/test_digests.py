"""What was measured before stays as it was: samples, tables, networks and one evaluation, held to the bit.

``digests.json`` holds a SHA-256 of the numbers' bytes and a few of the numbers. Where this machine's arithmetic is the
one the file was written with (``arithmetic`` says so), the bytes must agree; elsewhere processors round differently and
the numbers must agree within a tolerance. ``python -m tests.test_digests`` writes the file anew: only for a change
that means to alter numbers, in a commit of its own that says why.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

import agents
from agents.algorithms.config import PathwiseConfig, PolicyGradientConfig
from agents.sb3 import make_sb3, sb3_sampler
from diffusion_env.config import EvaluationConfig, PretrainConfig
from diffusion_env.critics import make_critic
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.denoisers.pretraining import pretrain
from diffusion_env.evaluation.protocol import evaluate, floor
from diffusion_env.samplers.named import SAMPLERS, make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import sample

RECORD = Path(__file__).with_name("digests.json")
NUM_STEPS = (1, 2, 3, 5, 10, 20, 50, 100)
AGENTS = ("Reinforce", "SFTPG", "DDPO", "DPOK", "GRPO", "RWR", "DxDP", "Pathwise")
EARLIER = {"SFTPG": PolicyGradientConfig(), "Pathwise": PathwiseConfig()}
"""Settings that were the defaults when the record was written."""
SHORT = 2 * 5 * 64 * 10
SHOWN = 6
BETA_SCHEDULES = ("linear", "cosine", "sigmoid", "published_toy")
"""The schedules that were there when the record was written; later ones have tests of their own."""


def arithmetic() -> Tensor:
    """What processors and builds of torch round differently: products, sums and transcendental functions."""
    x = torch.randn(257, 129, generator=torch.Generator().manual_seed(0))
    y = torch.nn.functional.silu(x @ x.T).sin() + (x @ x.T).cumsum(0).tanh()
    return torch.cat([y.flatten(), x.sum(0), (x[:7] @ x.T).flatten(), torch.special.expm1(x).mean(1)])


def tables() -> Tensor:
    """Every step table by name, K and noise schedule."""
    columns = [
        table_columns(make_table(name, make_schedule(schedule), k))
        for schedule in ("cosine", "linear")
        for name in SAMPLERS
        for k in NUM_STEPS
    ]
    schedules = [torch.as_tensor(make_schedule(name).alpha_bar, dtype=torch.float32) for name in BETA_SCHEDULES]
    return torch.cat(columns + schedules)


def table_columns(table: Any) -> Tensor:
    return torch.cat([table.x_coef, table.eps_coef, table.std, table.time])


SHIPPED = ("swiss_roll", "moons", "gaussians8", "gaussians25", "checkerboard", "pinwheel")


def networks() -> Tensor:
    """What the networks of `SHIPPED` answer at random states and levels."""
    draws = torch.Generator().manual_seed(1)
    x, time = torch.randn(64, 2, generator=draws), 1 + 999 * torch.rand(64, generator=draws)
    with torch.no_grad():
        return torch.cat([load_denoiser(None, name, (2,))(x, time) for name in SHIPPED])


def critics() -> Tensor:
    """What every named critic scores after three updates, on points and on small images."""
    found = []
    for shape in ((2,), (1, 4, 4)):
        draws = torch.Generator().manual_seed(2)
        for name in ("baseline", "energy", "gradient_penalty", "mmd", "spectral_norm", "weight_clipping"):
            critic = make_critic(name, shape, seed=5)
            for _ in range(3):
                real, xs = (torch.randn(*size, *shape, generator=draws) for size in ((48,), (3, 40)))
                critic.update(real, xs[-1], critic.trajectory_penalty(xs))
            found.append(critic(torch.randn(32, *shape, generator=draws)).detach())
    return torch.cat(found)


def pretraining() -> Tensor:
    """What a network answers after thirty updates of pretraining on eight Gaussians."""
    network = pretrain(load_dataset("gaussians8"), PretrainConfig(num_updates=30, batch_size=64, width=16, depth=2))
    return network(torch.randn(32, 2, generator=torch.Generator().manual_seed(4)), torch.linspace(1, 1000, 32))


def episodes() -> Tensor:
    """Rewards and samples of the single environment and of a batch, three episodes each, the critic learning."""
    env = gym.make("DDPMShortcut-v0", num_steps=3, action_mode="residual")
    envs = gym.make_vec("DDPMShortcut-v0", num_envs=128, num_steps=3, array_type="torch")
    (single, _), (batch, _) = env.reset(seed=6), envs.reset(seed=6)
    found = [torch.as_tensor(single["x"]), batch["x"].flatten()]
    for _ in range(9):
        single, reward, ended, *_ = env.step(single["x"] / 2)
        batch, rewards, *_ = envs.step(batch["x"] / 2)
        found += [torch.as_tensor(single["x"]), torch.tensor([float(reward)]), batch["x"].flatten(), rewards]
        if ended:
            single, _ = env.reset()
    return torch.cat(found)


def default_run() -> Tensor:
    """The default SFT-PG after 83 iterations of 3 rollouts of 128 episodes of 10 steps."""
    return outcome(agents.SFTPG(seed=0).learn(83 * 3 * 128 * 10))


def short_run(name: str) -> Tensor:
    """An agent after two iterations."""
    return outcome(getattr(agents, name)(num_envs=64, seed=3, config=EARLIER.get(name)).learn(SHORT))


def outcome(agent: Any) -> Tensor:
    """Samples of the average, the critic's scores of them, and the next actions."""
    x0 = agent.sample(256, seed=7)
    x = torch.linspace(-2, 2, 24).view(12, 2).numpy()
    actions, _ = agent.predict({"x": x, "step": np.arange(12) % 10})
    with torch.no_grad():
        scores = agent.envs.critic(agent.envs.dataset.from_data(x0))
    return torch.cat([x0.flatten(), scores, torch.as_tensor(actions).flatten()])


def ppo() -> Tensor:
    """stable-baselines3's PPO on the denoising actor after two rollouts."""
    model, env = make_sb3("ppo", 64, seed=3)
    model.learn(SHORT)
    x0 = sb3_sampler(model)(256, 7)
    with torch.no_grad():
        return torch.cat([x0.flatten(), env.critic(env.dataset.from_data(x0))])


def evaluation() -> Tensor:
    """One evaluation of an untouched sampler, with the floor beside it."""
    config = EvaluationConfig(num_samples=2_000, w1_samples=500, seeds=(0, 1), refit_steps=100)
    data = load_dataset("gaussians8")
    network = load_denoiser(None, "gaussians8", (2,))
    table = make_table("ddpm", network.schedule, 5)
    measured = evaluate(lambda n, draws: data.to_data(sample(table, network, n, draws)), data, config)
    rows = [*measured["per_seed"].values(), *floor(data, config)["per_seed"].values()]
    return torch.tensor([x for row in rows for x in row if x is not None], dtype=torch.float64)


DIGESTED: dict[str, tuple[Callable[[], Tensor], float]] = {
    "arithmetic": (arithmetic, 1e-4),
    "tables": (tables, 1e-6),
    "networks": (networks, 1e-4),
    "critics": (critics, 5e-2),  # Adam moves a weight a whole step, up or down, where its gradient is rounding
    "pretraining": (pretraining, 1e-3),
    "episodes": (episodes, 1e-3),
    "evaluation": (evaluation, 1e-2),
    "default_run": (default_run, 0.2),
    **{name: (partial(short_run, name), 1e-2) for name in AGENTS},
    "ppo": (ppo, 1e-2),
}
"""What is digested, and how far the shown numbers may lie off on other processors (share of their spread)."""


def digest(values: Tensor) -> dict[str, Any]:
    """The bytes' hash, and of the numbers: how many, mean, spread, and a few."""
    numbers = values.detach().flatten()
    shown = numbers[torch.linspace(0, len(numbers) - 1, SHOWN).long()]
    return {
        "sha256": hashlib.sha256(numbers.numpy().tobytes()).hexdigest(),
        "count": len(numbers),
        "mean": float(numbers.double().mean()),
        "spread": float(numbers.double().std()),
        "shown": shown.double().tolist(),
    }


def agrees(found: dict[str, Any], recorded: dict[str, Any], tolerance: float) -> bool:
    """Whether the numbers are those of the record within ``tolerance`` times their spread."""
    near = {"abs": tolerance * recorded["spread"], "rel": tolerance}
    same = all(found[key] == pytest.approx(recorded[key], **near) for key in ("mean", "spread", "shown"))
    return same and found["count"] == recorded["count"]


@pytest.fixture(scope="module")
def recorded() -> dict[str, dict[str, Any]]:
    read: dict[str, dict[str, Any]] = json.loads(RECORD.read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("name", DIGESTED)
def test_numbers_are_as_they_were(name: str, recorded: dict[str, dict[str, Any]]) -> None:
    compute, tolerance = DIGESTED[name]
    found = digest(compute())
    assert agrees(found, recorded[name], tolerance)
    if digest(arithmetic())["sha256"] == recorded["arithmetic"]["sha256"]:
        assert found["sha256"] == recorded[name]["sha256"]


def test_negative_control() -> None:
    values = torch.arange(100.0)
    first, last_bit, moved = (digest(v) for v in (values, values.nextafter(torch.tensor(1e9)), values * 1.1))
    assert agrees(last_bit, first, 1e-3) and last_bit["sha256"] != first["sha256"]
    assert not agrees(moved, first, 1e-3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    RECORD.write_text(json.dumps({name: digest(c()) for name, (c, _) in DIGESTED.items()}, indent=1) + "\n", "utf-8")
