"""States that do not fit a module or an optimizer are refused before they are used."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_env.checkpoints import (
    CheckpointError,
    load_checkpoint,
    load_module,
    load_optimizer,
    numbers_in,
    refuse_larger,
    save_checkpoint,
)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "NoneType and not a dict"),
        ([], "list and not a dict"),
        ({"weight": None, "bias": torch.zeros(2)}, "'weight' is a NoneType"),
        ({"weight": "text", "bias": 3}, "'weight' is a str"),
        ({3: torch.zeros(2)}, "'weight' is missing"),
        (
            {"weight": torch.zeros(2, 2).double(), "bias": torch.zeros(2)},
            "is of torch.float64 where",
        ),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"shape \(3, 2\) where \(2, 2\)"),
    ],
)
def test_a_state_that_does_not_fit_a_module_is_refused(state: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_module(nn.Linear(2, 2), state, "The network")


def test_a_count_below_zero_is_refused() -> None:
    norm = nn.BatchNorm1d(2)
    state = {**norm.state_dict(), "num_batches_tracked": torch.tensor(-1)}
    with pytest.raises(CheckpointError, match="the count 'num_batches_tracked' is -1"):
        load_module(norm, state, "The network")


def test_layers_larger_than_the_file_are_refused() -> None:
    state = {"weights": torch.zeros(300, 10)}
    refuse_larger({"policy_kwargs": {"net_arch": [300, 10]}}, state)
    with pytest.raises(ValueError, match="the number of weights of net_arch is 90000, which is too large"):
        refuse_larger({"policy_kwargs": {"net_arch": [300, 300]}}, state)
    assert numbers_in([state, {"more": (torch.zeros(2, 2), 3)}]) == 3_004


def stepped(width: int = 2) -> tuple[nn.Linear, torch.optim.Adam]:
    layer = nn.Linear(width, 2)
    adam = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.ones(1, width)).sum().backward()
    adam.step()
    return layer, adam


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    """The state of an optimizer after a step, with one entry replaced."""
    state: Any = stepped()[1].state_dict()
    node = state
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return dict(state)


@pytest.mark.parametrize(
    "state",
    [
        None,
        {},
        {"state": [], "param_groups": []},
        changed(["state", 0, "exp_avg"], torch.zeros(1)),
        changed(["state", 0, "exp_avg"], torch.zeros(10_000, 10_000)[:1]),
        changed(["state", 0, "exp_avg"], torch.zeros(2, 2, dtype=torch.int64)),
        changed(["state", 0, "exp_avg"], "text"),
        changed(["state", 0, "step"], torch.zeros(2, 2)),
        changed(["state", 0, "step"], torch.tensor(-1.0)),
        changed(["state", 0, "step"], torch.tensor(float("inf"))),
        changed(["state", 0, "step"], torch.tensor(0.5)),
        changed(["state", 0, "exp_avg_sq"], torch.tensor(1.0)),
        changed(["state", 7], {}),
        changed(["state", "a"], {}),
        changed(["state", 0], None),
        changed(["param_groups"], None),
        changed(["param_groups", 0], []),
        changed(["param_groups", 0, "params"], [0]),
        changed(["param_groups", 0, "params"], [False, True]),
        changed(["param_groups", 0, "lr"], "fast"),
        changed(["param_groups", 0, "lr"], float("nan")),
        changed(["param_groups", 0, "lr"], -1.0),
        changed(["param_groups", 0, "fused"], False),
        changed(["param_groups", 0, "betas"], None),
        changed(["param_groups", 0, "eps"], [1]),
        changed(["param_groups", 0, "new"], 1),
    ],
)
def test_a_forged_optimizer_state_is_refused_before_it_is_used(state: Any) -> None:
    _, adam = stepped()
    with pytest.raises(CheckpointError, match="The moments does not fit this Adam: "):
        load_optimizer(adam, state, "The moments")


def test_an_optimizer_goes_on_from_its_saved_state(tmp_path: Path) -> None:
    layer, adam = stepped()
    adam.param_groups[0]["lr"] = 0.5
    state, _ = load_checkpoint(save_checkpoint(tmp_path / "a", {"adam": adam.state_dict()}, {}))
    other = torch.optim.Adam(layer.parameters(), fused=True)
    load_optimizer(other, state["adam"], "The moments")
    assert other.param_groups[0]["lr"] == 0.5
    assert torch.equal(other.state[layer.weight]["exp_avg"], adam.state[layer.weight]["exp_avg"])
    other.state[layer.weight]["exp_avg"].zero_()
    assert state["adam"]["state"][0]["exp_avg"].any()  # a copy was loaded
