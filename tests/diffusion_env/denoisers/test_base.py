"""What every kind of denoiser offers: saved and read files, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_env.checkpoints import CheckpointError, Header, save_checkpoint, save_object
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.samplers.schedules import NoiseSchedule, from_betas, make_schedule
from tests.support import normal, small_network

COSINE = make_schedule("cosine")
CONFIG: dict[str, Any] = {"shape": [2], "schedule": "cosine", "num_levels": 1000, "width": 16, "depth": 2}


@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_a_saved_network_comes_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    saved = small_network(shape, seed=3)
    path = saved.save(tmp_path / "net", {"note": "mine"})
    loaded = EpsMLP.load(path)
    x = normal(5, *shape)
    assert torch.equal(loaded(x, torch.tensor(300.5)), saved(x, torch.tensor(300.5)))
    assert (loaded.shape, loaded.width, loaded.depth) == (shape, 16, 2)
    assert (loaded.schedule.name, loaded.schedule.num_levels) == ("cosine", 1000)
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("output", ["epsilon", "sample", "flow"])
@pytest.mark.parametrize("path", ["karras", "rectified_flow"])
def test_every_path_and_output_comes_back(tmp_path: Path, path: str, output: str) -> None:
    saved = EpsMLP((2,), make_schedule(path, 50), 16, 1, output=output)
    loaded = EpsMLP.load(saved.save(tmp_path / "net"))
    x, time = normal(5, 2), torch.tensor(30.5)
    assert torch.equal(loaded(x, time), saved(x, time)) and loaded.config == saved.config
    other = EpsMLP((2,), make_schedule(path, 50), 16, 1)
    assert not torch.allclose(other(x, time), saved(x, time), atol=1e-2)


def test_a_header_without_an_output_is_of_v(tmp_path: Path) -> None:
    weights = {"weights": dict(small_network().state_dict())}
    loaded = EpsMLP.load(save_object(tmp_path / "net", Header("denoiser", "mlp", CONFIG), weights))
    assert loaded.output == "v_prediction"


@pytest.mark.parametrize(
    "schedule", [COSINE.up_to(979), from_betas("mine", COSINE.alpha_bar[1:3] / 2), replace(COSINE, name="linear")]
)
def test_a_schedule_that_its_name_does_not_give_back_is_not_saved(tmp_path: Path, schedule: NoiseSchedule) -> None:
    with pytest.raises(ValueError, match=r"is not the schedule of that name\. .*'cosine', .*'linear'"):
        EpsMLP((2,), schedule).save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path / "critic", {"weights": {}}, {"kind": "critic"})
    with pytest.raises(CheckpointError, match=r"holds 'critic', but a 'denoiser' was to be loaded"):
        EpsMLP.load(path)
    with pytest.raises(CheckpointError, match=r"no checkpoint at .*nowhere"):
        EpsMLP.load(tmp_path / "nowhere")


def test_a_checkpoint_of_another_width_is_refused(tmp_path: Path) -> None:
    small = small_network()
    config = {"shape": [2], "schedule": "cosine", "num_levels": 1000, "width": 32, "depth": 2}
    path = save_object(tmp_path / "net", Header("denoiser", "mlp", config), {"weights": dict(small.state_dict())})
    with pytest.raises(CheckpointError, match=r"\(16, 2\) where \(32, 2\)"):
        EpsMLP.load(path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    path = save_object(tmp_path / "net", Header("denoiser", "unet", CONFIG), {"weights": {}})
    with pytest.raises(CheckpointError, match=r"kind 'unet', but an 'mlp' was to be loaded"):
        EpsMLP.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": "unknown"}, r"Unknown noise schedule 'unknown'"),
        ({"output": "noise"}, r"Unknown prediction 'noise'"),
        ({"width": "16"}, r"width must be an integer in .*; received '16'"),
        ({"shape": 2}, r"shape must be a tuple"),
        ({"num_levels": 0}, r"num_levels must be an integer in .*; received 0"),
        ({"num_levels": 10**12}, r"num_levels must be an integer in .*; received 1000000000000"),
        ({"width": 10**9}, r"width must be an integer in .*; received 1000000000"),
        ({"depth": 10**9}, r"depth must be an integer in .*; received 1000000000"),
        ({"width": 8000}, r"width is 8000, which is too large for the file's 10 tensors"),
        ({"depth": 100}, r"depth is 100, which is too large"),
        ({"shape": [10**6, 10**6]}, r"shape is 1000000000000, which is too large"),
        ({"hidden": 3}, r"\['hidden'\] are not among them"),
    ],
)
def test_a_forged_configuration_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    weights = {"weights": dict(small_network().state_dict())}
    path = save_object(tmp_path / "net", Header("denoiser", "mlp", {**CONFIG, **change}), weights)
    with pytest.raises(CheckpointError, match=rf"cannot be built from its file: .*{message}"):
        EpsMLP.load(path)


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    path = save_object(tmp_path / "net", Header("denoiser", "mlp", CONFIG), {"other": 1})
    with pytest.raises(CheckpointError, match=r"cannot be built from its file: 'weights'"):
        EpsMLP.load(path)
