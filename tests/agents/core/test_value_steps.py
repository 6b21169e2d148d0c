"""V(x[k], k): one number per state, which depends on the state and on the step."""

import pytest
import torch
from torch import Tensor

from agents.core.policy import all_steps
from agents.core.value import ValueNet
from tests.support import normal

SHAPES = [(2,), (1, 4, 4)]


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_has_one_number_per_state(shape: tuple[int, ...], num_steps: int) -> None:
    value = ValueNet(shape, num_steps, 16, 2, torch.Generator().manual_seed(0))
    steps = all_steps(num_steps, torch.device("cpu"))
    xs = normal(num_steps, 6, *shape)
    with torch.no_grad():
        whole = value(xs, steps)
        assert whole.shape == (num_steps, 6)
        single = torch.stack([value(xs[k], torch.tensor(k)) for k in range(num_steps)])
    assert torch.allclose(whole, single, atol=1e-5)


def test_value_sees_the_state_and_the_step() -> None:
    value = ValueNet((2,), 3, 16, 2, torch.Generator().manual_seed(0))
    x = normal(6, 2)
    with torch.no_grad():
        first = value(x, torch.tensor(0))
        assert (value(x, torch.tensor(1)) - first).abs().min() > 1e-4
        assert first.std() > 1e-3
        assert torch.equal(value(x, torch.tensor(0)), first)


def test_weights_come_from_the_generator() -> None:
    def weights(seed: int) -> Tensor:
        return next(ValueNet((2,), 3, 16, 2, torch.Generator().manual_seed(seed)).parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))
