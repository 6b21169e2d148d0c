"""Folders that diffusers wrote, against diffusers itself, and what is refused in them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.denoisers.diffusers_folder import is_diffusers_folder, read_folder
from diffusion_env.denoisers.loading import load_denoiser
from diffusion_env.denoisers.unet import UNetDenoiser
from diffusion_env.samplers.denoiser import EpsDenoiser
from tests.support import normal

KEYWORDS: dict[str, Any] = {
    "sample_size": 8, "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16), "layers_per_block": 1,
    "down_block_types": ("AttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "AttnUpBlock2D"),
    "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "norm_eps": 1e-6, "attention_head_dim": None,
    "norm_num_groups": 4, "dropout": 0.1,
}  # fmt: skip
X, TIMESTEPS = normal(3, 3, 8, 8), torch.tensor([0.0, 37.25, 999.0])
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def unet() -> Any:
    from diffusers import UNet2DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DModel(**KEYWORDS).eval().requires_grad_(False)


@pytest.fixture
def folder(unet: Any, tmp_path: Path) -> Path:
    """A pipeline's folder."""
    from diffusers import DDPMPipeline, DDPMScheduler

    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def change(path: Path, **values: Any) -> None:
    """Set ``values`` in a JSON file; None in the place of a value is JSON's null, ``...`` removes the key."""
    content = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def same_answers(network: UNetDenoiser, unet: Any) -> bool:
    return torch.allclose(network(X, TIMESTEPS + 1), unet(X, TIMESTEPS).sample, rtol=0, atol=2e-6)


def test_the_answers_are_those_of_diffusers(folder: Path, unet: Any) -> None:
    network = read_folder(folder)
    assert same_answers(network.train(), unet)  # its dropout of 0.1 stays off
    assert not any(p.requires_grad for p in network.parameters())
    assert (network.shape, network.prediction) == ((3, 8, 8), "epsilon")
    assert not torch.allclose(network(X, TIMESTEPS), unet(X, TIMESTEPS).sample, atol=1e-4)  # negative control


def test_a_network_alone_says_which_schedule_it_assumes(unet: Any, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path / "unet")
    with pytest.warns(
        UserWarning, match=r"no scheduler_config.json: .* eps on the linear schedule, betas 1e-4 to 0.02"
    ):
        network = read_folder(tmp_path / "unet")
    assert same_answers(network, unet) and network.schedule.name == "linear"
    (tmp_path / "unet" / "scheduler_config.json").write_text('{"_class_name": "DDIMScheduler", "beta_end": 0.01}')
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_folder(tmp_path / "unet").schedule.alpha_bar[-1] > 10 * network.schedule.alpha_bar[-1]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_train_timesteps": 50, "beta_start": 1e-3, "beta_end": 0.1},
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"beta_schedule": "sigmoid"},
        {"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3, 0.9]},
    ],
    ids=lambda settings: "-".join(map(str, settings)) or "default",
)
def test_schedule_and_prediction_are_the_schedulers(
    folder: Path, unet: Any, settings: dict[str, Any], prediction: str
) -> None:
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(prediction_type=prediction, **settings)
    scheduler.save_pretrained(folder / "scheduler")
    denoiser = load_denoiser(folder, "mine", (3, 8, 8))
    np.testing.assert_allclose(denoiser.schedule.alpha_bar[1:], scheduler.alphas_cumprod, rtol=2e-5)
    assert isinstance(denoiser, EpsDenoiser) and denoiser.inner_prediction == prediction
    t = scheduler.config["num_train_timesteps"] // 2
    answer = unet(X, torch.tensor(float(t))).sample
    scheduler.set_timesteps(timesteps=[t])
    step = scheduler.step(answer, t, X, generator=torch.Generator())
    a = scheduler.alphas_cumprod[t]
    clipped = (X - (1 - a).sqrt() * denoiser(X, torch.tensor(t + 1.0))) / a.sqrt()
    torch.testing.assert_close(clipped.clamp(-1, 1), step.pred_original_sample, rtol=1e-4, atol=1e-4)


def test_old_names_of_attention_are_read(folder: Path, unet: Any) -> None:
    path = folder / "unet" / WEIGHTS
    weights = load_file(path)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for new, name in old.items():
        weights = {key.replace(f".{new}.", f".{name}."): weight for key, weight in weights.items()}
    assert {"query", "key", "value", "proj_attn"} <= {name.split(".")[-2] for name in weights}
    save_file(weights, path)
    assert same_answers(read_folder(folder), unet)


def test_weights_in_torchs_format_are_read_where_there_are_no_others(folder: Path, unet: Any) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.bin"
    torch.save(
        {name: weight + 1 for name, weight in unet.state_dict().items()},
        folder / "unet" / "diffusion_pytorch_model.bin",
    )
    assert same_answers(read_folder(folder), unet)  # safetensors first
    (folder / "unet" / WEIGHTS).unlink()
    assert not same_answers(read_folder(folder), unet)
    torch.save(unet.state_dict(), path)
    assert same_answers(read_folder(folder), unet)
    torch.save(unet, path)
    with pytest.raises(CheckpointError, match=r"could run code"):
        read_folder(folder)


def test_heads_that_are_not_said_are_warned_of(folder: Path, unet: Any) -> None:
    change(folder / "unet" / "config.json", attention_head_dim=...)
    with pytest.warns(UserWarning, match=r"does not say attention_head_dim: heads of 8 channels .* null"):
        network = read_folder(folder)
    assert network.architecture.attention_head_dim == 8 and not same_answers(network, unet)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("unet/config.json", {"out_channels": 6}, r"out_channels 6: the network has a learned variance"),
        ("unet/config.json", {"out_channels": 4}, r"out_channels 4: they differ"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, r"'UNet2DConditionModel', and only UNet2DModel"),
        ("unet/config.json", {"_class_name": "os:system"}, r"of class 'os:system'"),
        ("unet/config.json", {"num_class_embeds": 10}, r"num_class_embeds must be None; received 10"),
        ("unet/config.json", {"time_embedding_type": "fourier"}, r"time_embedding_type must be 'positional'"),
        ("unet/config.json", {"sample_size": None}, r"sample_size must be a tuple, .*; received None"),
        ("unet/config.json", {"sample_size": 9}, r"shape \(3, 9, 9\)\. It takes images .* divisible by 2"),
        ("unet/config.json", {"down_block_types": ["SkipDownBlock2D", "DownBlock2D"]}, r"down_block_types must be"),
        ("unet/config.json", {"block_out_channels": [4096, 8192]}, r"where \(4096, 3, 3, 3\) is expected"),
        ("unet/config.json", {"import": "evil"}, r"\['import'\] are not among them"),
        ("scheduler/scheduler_config.json", {"variance_type": "learned_range"}, r"'learned_range': a learned variance"),
        ("scheduler/scheduler_config.json", {"_class_name": "FlowMatchEulerDiscreteScheduler"}, r"only \['DDPM"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow_prediction"}, r"prediction_type must be one of"),
        ("scheduler/scheduler_config.json", {"rescale_betas_zero_snr": True}, r"last level is pure noise"),
        ("scheduler/scheduler_config.json", {"beta_end": 2.0}, r"make no noise schedule: .*Every beta"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, r"num_train_timesteps must be an integer"),
        ("model_index.json", {"unet": ["diffusers", "UNet2DConditionModel"]}, r"class 'UNet2DConditionModel'\. Only"),
        ("model_index.json", {"vqvae": ["diffusers", "VQModel"]}, r"class 'UNet2DModel' beside \['vqvae'\]\. Only"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(folder: Path, file: str, values: dict[str, Any], message: str) -> None:
    change(folder / file, **values)
    with pytest.raises(CheckpointError, match=message):
        read_folder(folder)


@pytest.mark.parametrize("file", ["unet/config.json", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("is_link", [True, False])
def test_missing_files_and_links_out_of_the_folder_are_refused(
    folder: Path, tmp_path: Path, file: str, is_link: bool
) -> None:
    moved = (folder / file).rename(tmp_path / "moved")
    if is_link:
        (folder / file).symlink_to(moved)
    with pytest.raises(
        CheckpointError, match=r"outside" if is_link else r"lacks unet/config|no weights|lacks scheduler"
    ):
        read_folder(folder)


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    path = folder / "unet" / WEIGHTS
    weights = load_file(path)
    save_file({name: weight for name, weight in weights.items() if not name.startswith("conv_out")}, path)
    with pytest.raises(
        CheckpointError, match=r"'conv_out.weight' is missing from it; tensor 'conv_out.bias' is missing"
    ):
        read_folder(folder)


def test_only_folders_of_diffusers_are_taken_for_one(folder: Path, tmp_path: Path) -> None:
    assert is_diffusers_folder(folder) and is_diffusers_folder(folder / "unet")
    assert not is_diffusers_folder(tmp_path) and not is_diffusers_folder(folder / "model_index.json")
