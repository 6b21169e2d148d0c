"""One optimizer step: its size, its clip, and when it is refused."""

from typing import Any

import pytest
import torch
from torch import nn

from agents.core.optimization import (
    LaterChecks,
    averaging,
    decayed,
    descend,
    power_average,
    refuse_non_finite,
    set_learning_rate,
)


def weights(value: float = 1.0) -> tuple[nn.Parameter, torch.optim.SGD]:
    parameter = nn.Parameter(torch.full((2,), value))
    return parameter, torch.optim.SGD([parameter], lr=0.5)


def test_a_step_descends_and_returns_the_norm_before_the_clip() -> None:
    parameter, optimizer = weights()
    norm = descend("policy", (parameter * torch.tensor([3.0, 4.0])).sum(), optimizer, 0)
    assert float(norm) == pytest.approx(5.0)
    assert parameter.tolist() == pytest.approx([1 - 1.5, 1 - 2.0])
    parameter, optimizer = weights()
    norm = descend("policy", (parameter * torch.tensor([3.0, 4.0])).sum(), optimizer, 0, max_grad_norm=1.0)
    assert float(norm) == pytest.approx(5.0)
    assert parameter.tolist() == pytest.approx([1 - 0.3, 1 - 0.4], rel=1e-4)


def test_only_the_optimizer_s_own_weights_receive_a_gradient() -> None:
    (parameter, optimizer), (other, _) = weights(), weights()
    descend("policy", (parameter * other).sum(), optimizer, 0)
    assert parameter.grad is not None and other.grad is None


@pytest.mark.parametrize(("factor", "named"), [(float("nan"), "policy_loss became nan"), (1e38, "policy_grad_norm")])
def test_a_step_that_is_not_finite_is_refused_before_anything_changes(factor: float, named: str) -> None:
    parameter, optimizer = weights(1e-30)
    with pytest.raises(FloatingPointError, match=f"{named}.*in iteration 4.*Lower the learning rates"):
        descend("policy", (parameter * factor * 10).sum(), optimizer, 4)
    assert torch.equal(parameter.detach(), torch.full((2,), 1e-30))


def test_the_first_value_that_is_not_finite_is_named() -> None:
    fine, bad = torch.zeros(3), torch.tensor([0.0, float("-inf")])
    refuse_non_finite(2, a=fine, b=fine)
    with pytest.raises(FloatingPointError, match="b became -inf in iteration 2"):
        refuse_non_finite(2, a=fine, b=bad, c=bad)


@pytest.mark.parametrize(("schedule", "expected"), [("linear", 0.25), ("constant", 1.0)])
def test_step_sizes(schedule: str, expected: float) -> None:
    assert decayed(1.0, schedule, 0.25) == expected
    (plain, _), (scaled, _) = weights(), weights()
    groups: list[dict[str, Any]] = [{"params": [plain]}, {"params": [scaled], "lr_scale": 30.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    set_learning_rate(optimizer, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 3.0])


@pytest.mark.parametrize("width", [0.05, 0.1, 0.2])
def test_the_power_average_weighs_a_share_of_the_run_that_does_not_depend_on_its_length(width: float) -> None:
    for length in (200, 1000):
        steps = torch.arange(length, dtype=torch.float64)
        means = [torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)]
        update = power_average(width)
        for t in range(1, length):
            update(means, [steps[t : t + 1], steps[t : t + 1] ** 2], torch.tensor(t))
        mean, square = float(means[0]), float(means[1])
        assert (square - mean**2) ** 0.5 / length == pytest.approx(width, rel=0.02)
        assert mean > length / 2


def test_what_is_read_later_makes_no_step_and_is_named_at_the_end() -> None:
    weight = nn.Parameter(torch.ones(2))
    optimizer, later = torch.optim.Adam([weight], lr=0.5, fused=True), LaterChecks()
    descend("value", weight.sum(), optimizer, 3, later=later)
    moved = weight.detach().clone()
    assert not torch.equal(moved, torch.ones(2))
    later.settle(3)
    refuse_non_finite(3, later=later, critic_score=torch.zeros(2, 3))
    descend("policy", weight.sum() * float("inf"), optimizer, 3, later=later)
    descend("value", weight.sum() * float("nan"), optimizer, 3, later=later)
    assert torch.equal(weight.detach(), moved)
    with pytest.raises(FloatingPointError, match="policy_loss became inf in iteration 3"):
        later.settle(3)
    later.settle(3)  # each is told once
    descend("value", weight.sum(), optimizer, 3, later=later)
    assert not torch.equal(weight.detach(), moved)


def test_the_average_is_by_decay_or_by_width() -> None:
    for width, expected in ((None, 0.25), (0.1, 1 - (1 - 1 / 2) ** 7.44)):
        (old,), (new,) = [torch.zeros(1)], [torch.ones(1)]
        averaging(0.75, width)([old], [new], torch.tensor(1))
        assert float(old) == pytest.approx(expected, abs=0.02)


@pytest.mark.gpu
def test_a_step_that_is_read_later_waits_for_no_gpu() -> None:
    weight, later = nn.Parameter(torch.ones(2, device="cuda")), LaterChecks()
    optimizer = torch.optim.Adam([weight], lr=0.5, fused=True)
    torch.cuda.set_sync_debug_mode("error")
    try:
        descend("value", weight.sum(), optimizer, 0, 1.0, later=later)
        with pytest.raises(RuntimeError):  # without it, the host waits
            descend("value", weight.sum(), optimizer, 0, 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
