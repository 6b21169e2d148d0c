"""What the tests of the critics share: batches, updates as the environment makes them, and the form of an error."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffusion_env.critics import Critic

Batch = tuple[Tensor, Tensor]


def make_batch(shape: tuple[int, ...], seed: int = 0, real: int = 40, fake: int = 23, gap: float = 1.0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(real, *shape, generator=generator)
    return x, torch.randn(fake, *shape, generator=generator) + gap


def make_update(critic: Critic, real: Tensor, fake: Tensor) -> dict[str, float]:
    xs = torch.stack([0.1 * fake, 0.5 * fake, fake])
    return critic.update(real, fake, critic.trajectory_penalty(xs))


def make_gaussians(seed: int, n: int = 128, shift: Tensor | None = None) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    moved = torch.randn(n, 2, generator=generator) + (torch.tensor([2.0, 0.0]) if shift is None else shift)
    return moved, torch.randn(n, 2, generator=generator)


@pytest.fixture
def batch() -> Callable[..., Batch]:
    """``batch(shape, seed, real, fake, gap)``: real and fake events, standard normal, fakes moved by ``gap``."""
    return make_batch


@pytest.fixture
def update() -> Callable[[Critic, Tensor, Tensor], dict[str, float]]:
    """``update(critic, real, fake)`` as the environment makes it, on three-state trajectories that end in ``fake``."""
    return make_update


@pytest.fixture
def train() -> Callable[..., Critic]:
    """``train(critic, steps, gap, seed)``: the critic after updates on batches of points."""

    def trained(critic: Critic, steps: int, gap: float, seed: int = 0) -> Critic:
        for i in range(steps):
            make_update(critic, *make_batch((2,), 1000 * seed + i, 128, 96, gap))
        return critic

    return trained


@pytest.fixture
def gaussians() -> Callable[..., Batch]:
    """``gaussians(seed, n, shift)``: two standard Gaussians, the real one moved; their W1 is the shift's length, 2."""
    return make_gaussians


@pytest.fixture
def train_on_gaussians() -> Callable[[Critic, int], Critic]:
    """``train_on_gaussians(critic, steps)``: the critic after updates without a penalty."""

    def trained(critic: Critic, steps: int) -> Critic:
        for seed in range(steps):
            critic.update(*make_gaussians(seed))
        return critic

    return trained


@pytest.fixture
def check_paragraph() -> Callable[..., None]:
    """``check_paragraph(error, *words)``: the message is one line, a sentence, and contains the words."""

    def check(error: pytest.ExceptionInfo[Exception], *words: str) -> None:
        message = str(error.value)
        assert "\n" not in message and message.endswith(".")
        for word in words:
            assert word in message, message

    return check
