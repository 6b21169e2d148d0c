"""Checkpoints: whatever is saved comes back with the same types, keys and bits."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from diffusion_env.checkpoints import (
    CheckpointError,
    Header,
    load_checkpoint,
    load_module,
    load_object,
    save_checkpoint,
    save_object,
)
from tests.support import assert_paragraph


def equal(a: Any, b: Any) -> bool:
    """Same types, same structure, same bits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, dict):
        return (
            list(a) == list(b)
            and all(type(k) is type(m) for k, m in zip(a, b, strict=True))
            and all(equal(a[key], b[key]) for key in a)
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def bits(tensor: Tensor) -> bytes:
    return bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist())


def roundtrip(path: Path, state: Any) -> Any:
    return load_checkpoint(save_checkpoint(path, state, {}))[0]


TENSORS = {
    "0-dim": torch.tensor(3.5),
    "empty": torch.zeros(0, 4),
    "bool": torch.tensor([True, False]),
    "uint8": torch.arange(5, dtype=torch.uint8),
    "int64": torch.tensor([2**62 + 1]),
    "float64": torch.tensor([1 / 3], dtype=torch.float64),
    "bfloat16": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "nan and -0": torch.tensor([float("nan"), -0.0, float("inf")]),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "channels last": torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
    "expanded": torch.ones(1, 3).expand(2, 3),
    "conjugate": torch.tensor([1 + 2j]).conj(),
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_kind_of_tensor_round_trips(tmp_path: Path, name: str) -> None:
    tensor = TENSORS[name]
    assert equal(roundtrip(tmp_path / "a", {"x": tensor})["x"], tensor.resolve_conj())


def test_the_comparison_of_these_tests_can_fail() -> None:
    assert not equal({1: 2}, {"1": 2})
    assert not equal((1,), [1])
    assert not equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert not equal(torch.zeros(2), torch.zeros(2, 1))


def test_nested_state_keeps_types_order_and_keys(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    state = {
        "b": [1, (2.5, None), {"deep": [torch.ones(2)]}],
        3: {1: torch.zeros(1), "1": torch.ones(1)},
        "a.b": torch.full((2,), 2.0),
        "a": {"b": torch.full((2,), 3.0)},
        "tied": (shared, shared, shared[1:]),
        "scalars": [True, 1, 0.1, 1e-300, float("inf"), "é", 2**100],
        "empty": [{}, [], ()],
    }
    assert equal(roundtrip(tmp_path / "a", state), state)


@pytest.mark.parametrize("state", [torch.ones(2), [torch.ones(1), 2], {}, 3, {"": torch.ones(1)}])
def test_any_root_is_allowed(tmp_path: Path, state: Any) -> None:
    assert equal(roundtrip(tmp_path / "a", state), state)


leaves: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
)
leaves |= st.lists(st.integers(-9, 9), max_size=3).map(lambda items: torch.tensor(items))
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.integers(0, 3) | st.text(alphabet="a.'1", max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(state=trees)
@settings(max_examples=60, deadline=None)
def test_any_tree_round_trips(tmp_path_factory: pytest.TempPathFactory, state: Any) -> None:
    assert equal(roundtrip(tmp_path_factory.mktemp("tree") / "a", state), state)


def trained() -> tuple[nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.Generator]:
    generator = torch.Generator().manual_seed(3)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, amsgrad=True)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5), generator


def train(parts: Any, steps: int) -> None:
    model, optimizer, schedule, generator = parts
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        schedule.step()


def test_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    straight, first, second = trained(), trained(), trained()
    train(straight, 9)
    train(first, 4)
    train(second, 1)  # a different state, so that a load that does nothing is seen
    save_checkpoint(tmp_path / "run", [*(p.state_dict() for p in first[:3]), first[3].get_state()], {})
    state, _ = load_checkpoint(tmp_path / "run")
    model, optimizer, schedule, generator = second
    model.load_state_dict(state[0])
    optimizer.load_state_dict(state[1])
    schedule.load_state_dict(state[2])
    generator.set_state(state[3])
    assert equal(second[1].state_dict(), first[1].state_dict())
    train(second, 5)
    assert equal(dict(second[0].state_dict()), dict(straight[0].state_dict()))
    assert not equal(dict(second[0].state_dict()), dict(first[0].state_dict()))


def test_suffix_metadata_and_folders(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "new" / "run.v1", {"x": torch.ones(1)}, {"step": 3, "sizes": (1, 2), "é": None})
    assert path == tmp_path / "new" / "run.v1.safetensors"
    assert load_checkpoint(tmp_path / "new" / "run.v1")[1] == {"step": 3, "sizes": [1, 2], "é": None}
    assert save_checkpoint(path, {}, {}) == path
    assert [file.name for file in path.parent.iterdir()] == ["run.v1.safetensors"]


def test_other_tools_read_the_tensors_under_their_path(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "a", {"net": nn.Linear(2, 1).state_dict(), "k": [1, torch.ones(1)]}, {})
    assert set(load_file(path)) == {"net.weight", "net.bias", "k.1"}


def test_equal_states_give_equal_files(tmp_path: Path) -> None:
    state = {"b": torch.ones(3), "a": [torch.zeros(2), 1.5], "c": torch.ones(1, dtype=torch.float64)}
    first, second = (save_checkpoint(tmp_path / name, state, {"x": 1, "y": 2}) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_loaded_tensors_are_fresh_copies(saved: Path) -> None:
    state, _ = load_checkpoint(saved)
    state["w"].zero_()
    again, _ = load_checkpoint(saved)
    assert again["w"].sum() == 15
    with open(saved, "r+b") as file:  # a mapped tensor would change, or crash the process
        file.truncate(10)
    assert again["w"].sum() == 15


def test_tensors_land_on_the_device(saved: Path) -> None:
    assert load_checkpoint(saved, device="meta")[0]["w"].device.type == "meta"


def test_state_keeps_gradients_out(tmp_path: Path) -> None:
    parameter = nn.Parameter(torch.ones(2))
    loaded = roundtrip(tmp_path / "a", {"p": parameter, "y": parameter * 2})
    assert not loaded["p"].requires_grad and not loaded["y"].requires_grad


class TestLoadModule:
    def test_loads(self) -> None:
        source, target = nn.Linear(3, 2), nn.Linear(3, 2)
        load_module(target, source.state_dict(), "the layer")
        assert equal(dict(target.state_dict()), dict(source.state_dict()))

    def test_wrong_shape_names_tensor_and_both_shapes(self) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_module(nn.Linear(3, 2), nn.Linear(4, 2).state_dict(), "the denoiser of runs/a")
        assert_paragraph(caught.value, "the denoiser of runs/a", "'weight'", "(2, 4)", "(2, 3)", "Linear")

    def test_missing_and_unexpected_tensors_are_named(self) -> None:
        with pytest.raises(CheckpointError) as caught:
            load_module(nn.Linear(3, 2), {"weight": torch.ones(2, 3), "gain": torch.ones(1)}, "the layer")
        assert_paragraph(caught.value, "'bias' is missing", "'gain' is not expected")

    def test_a_failure_torch_alone_can_explain(self) -> None:
        class Picky(nn.Linear):
            def _load_from_state_dict(self, *_: Any) -> None:
                raise RuntimeError("wrong\n  moon")

        with pytest.raises(CheckpointError) as caught:
            load_module(Picky(3, 2), nn.Linear(3, 2).state_dict(), "the layer")
        assert_paragraph(caught.value, "wrong moon")


def test_an_object_comes_back_with_its_header(tmp_path):
    header = Header("critic", "energy", {"gamma": 0.5}, {"note": "mine"})
    path = save_object(tmp_path / "c", header, {"w": torch.ones(2)})
    state, loaded = load_object(path, "critic")
    assert loaded == header and torch.equal(state["w"], torch.ones(2))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "holds no kind of object, but a 'critic' was to be loaded"),
        ({"kind": "agent", "name": "x", "config": {}}, "holds 'agent', but a 'critic'"),
        ({"kind": "critic", "config": {}}, "its name is None"),
        ({"kind": "critic", "name": ["os"], "config": {}}, "its name is \\['os'\\]"),
        ({"kind": "critic", "name": "energy", "config": 3}, "config of type int"),
    ],
)
def test_a_header_that_is_none_is_refused(tmp_path, metadata, message):
    path = save_checkpoint(tmp_path / "c", {}, metadata)
    with pytest.raises(CheckpointError, match=message):
        load_object(path, "critic")
