"""The U-Net of diffusers as a denoiser: its weights, its clock, its file, and what it refuses."""

from __future__ import annotations

import builtins
import pickle
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch

from agents import DDPO, SFTPG
from diffusion_env.checkpoints import CheckpointError, Header, save_object
from diffusion_env.denoisers.loading import load_denoiser, read_denoiser
from diffusion_env.denoisers.unet import UNetArchitecture, UNetDenoiser, small_architecture, unet2d
from diffusion_env.samplers.denoiser import as_denoiser, ask_at_steps
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal, seeded, small_unet

COSINE = make_schedule("cosine")
OTHER = UNetArchitecture(
    (8, 16, 16), ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"), ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    layers_per_block=1, attention_head_dim=None, norm_num_groups=4, norm_eps=1e-6, downsample_padding=0,
    flip_sin_to_cos=False, freq_shift=1,
)  # fmt: skip


@pytest.mark.parametrize("architecture", [None, OTHER])
def test_a_saved_network_comes_back(tmp_path: Path, architecture: UNetArchitecture | None) -> None:
    saved = UNetDenoiser((3, 8, 8), COSINE, 8, 2, seeded(3), "epsilon", architecture).requires_grad_(False)
    loaded = read_denoiser(saved.save(tmp_path / "net", {"note": "mine"}))
    x, time = normal(5, 3, 8, 8), torch.tensor([1.0, 3.5, 40.0, 400.0, 1000.0])
    assert torch.equal(loaded(x, time), saved(x, time)) and loaded.config == saved.config
    assert not torch.allclose(small_unet((3, 8, 8))(x, time), saved(x, time), atol=1e-2)  # negative control
    assert not any(p.requires_grad for p in loaded.parameters())


def test_it_is_asked_with_any_batch_and_time() -> None:
    network = small_unet(seed=1)
    denoiser, x, times = as_denoiser(network), normal(3, 4, 1, 8, 8), torch.tensor([979.0, 500.5, 1.0])
    found = denoiser(x, times.unsqueeze(-1))  # (K, 1) against (K, B)
    for k in range(3):
        torch.testing.assert_close(found[k], denoiser(x[k], times[k]), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[k, 2], denoiser(x[k, 2], times[k]), rtol=1e-5, atol=1e-5)
    picked = ask_at_steps(denoiser, x[0], times, torch.tensor([2, 0, 1, 1]))
    torch.testing.assert_close(picked[1], found[0, 1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(picked[0], found[0, 0], atol=1e-3)


def test_its_clock_is_that_of_diffusers_plus_one() -> None:
    network, x = small_unet(seed=2), normal(2, 1, 8, 8)
    own = network.unet(x, torch.tensor(37.25)).sample
    torch.testing.assert_close(network(x, torch.full((2,), 38.25)), own, rtol=0, atol=1e-6)
    assert not torch.allclose(network(x, torch.full((2,), 37.25)), own, rtol=0, atol=1e-5)


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (small_unet(seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["unet.conv_in.weight"], other["unet.conv_in.weight"])


@pytest.mark.parametrize("training", [True, False])
def test_there_is_no_dropout(training: bool) -> None:
    network, x = small_unet().train(training), normal(2, 1, 8, 8)
    assert torch.equal(network(x, torch.ones(2)), network(x, torch.ones(2)))
    assert {part.p for part in network.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_rollout_and_update_see_one_policy(dropout: float) -> None:
    network = small_unet()
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = dropout  # negative control: what the ratio is where there is dropout after all
    agent = DDPO(num_envs=4, env_kwargs={"dataset": "digits", "denoiser": network, "num_steps": 2}, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the steps of an untrained network
        agent.learn(1)
    assert agent.metrics is not None
    assert (agent.metrics["train/ratio_error"] < 1e-3) == (dropout == 0)


def test_it_is_pickled() -> None:
    network, x = small_unet(), normal(2, 1, 8, 8)
    assert torch.equal(pickle.loads(pickle.dumps(network))(x, torch.ones(2)), network(x, torch.ones(2)))


def test_the_environment_and_an_agent_use_its_file(tmp_path: Path) -> None:
    path = str(small_unet().save(tmp_path / "net"))
    env = gym.make("DDPMShortcut-v0", dataset="digits", denoiser=path, num_steps=2, action_mode="residual")
    env.reset(seed=0)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    agent = SFTPG(num_envs=4, env_kwargs={"dataset": "digits", "denoiser": path, "num_steps": 2}, seed=0)
    before = agent.policy.net.state_dict()["network.unet.conv_in.weight"].clone()
    agent.learn(1)
    after = agent.policy.net.state_dict()["network.unet.conv_in.weight"]
    assert not torch.equal(before, after) and torch.isfinite(after).all()
    again = SFTPG.load(agent.save(tmp_path / "agent"), trust_paths=True)
    assert torch.equal(again.sample(3, 0), agent.sample(3, 0))


@pytest.mark.parametrize(
    ("shape", "depth"), [((1, 8, 8), 2), ((1, 16, 16), 3), ((1, 28, 28), 3), ((3, 32, 32), 4), ((1, 9, 9), 1)]
)
def test_the_default_depth_halves_as_often_as_the_image_allows(shape: tuple[int, ...], depth: int) -> None:
    assert UNetDenoiser.default_size(shape) == (32, depth)
    assert small_architecture(32, depth).keywords(shape)["in_channels"] == shape[0]


@pytest.mark.parametrize(
    ("shape", "width", "depth", "message"),
    [
        ((1, 28, 28), 8, 4, r"4 resolutions .* shape \(1, 28, 28\).* divisible by 8\. Use fewer resolutions"),
        ((1, 8, 9), 8, 2, r"2 resolutions .* divisible by 2"),
        ((2,), 8, 1, r"events of shape \(2,\)\. It takes images"),
        ((1, 8, 8), 12, 2, r"block_out_channels holds \[12\], which 8 groups .* Give multiples of 8"),
        ((1, 8, 8), 8, 17, r"have \[17, 17, 17\] entries\. .* 1 to 16"),
    ],
)
def test_what_cannot_be_built_is_refused(shape: tuple[int, ...], width: int, depth: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNetDenoiser(shape, COSINE, width, depth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_out_channels": [8192, 8192]}, r"has shape \(8, 1, 3, 3\) where \(8192, 1, 3, 3\)"),
        ({"layers_per_block": 16}, r"is missing from it; .*and \d+ more"),
        ({"layers_per_block": 10**9}, r"layers_per_block must be an integer in \[1, 16\]"),
        ({"down_block_types": ["os.system", "DownBlock2D"]}, r"down_block_types must be a tuple, .*; received"),
        ({"attn_norm_num_groups": 7, "resnet_time_scale_shift": "scale_shift"}, r"U-Net of the file cannot be built: "),
        ({"act_fn": "relu6"}, r"act_fn must be one of"),
        ({"class_name": "evil:Evil"}, r"\['class_name'\] are not among them"),
    ],
)
def test_a_forged_architecture_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    network = small_unet()
    config = asdict(network.config)
    config["architecture"] |= change
    header = Header("denoiser", "unet", config)
    path = save_object(tmp_path / "net", header, {"weights": dict(network.state_dict())})
    with pytest.raises(CheckpointError, match=message):
        read_denoiser(path)


def test_a_file_of_width_and_depth_alone_is_read(tmp_path: Path) -> None:
    network = small_unet()
    config = {**asdict(network.config), "architecture": None}
    path = save_object(tmp_path / "net", Header("denoiser", "unet", config), {"weights": dict(network.state_dict())})
    assert read_denoiser(path).config == network.config
    with pytest.raises(ValueError, match=r"shape \(1, 8, 8\) but the data have shape \(2,\)"):
        load_denoiser(path, "moons", (2,))


def test_without_diffusers_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_unet().save(tmp_path / "net")
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.startswith("diffusers"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    for call in (small_unet, lambda: read_denoiser(path)):
        with pytest.raises(ImportError, match=r"needs diffusers .* pip install 'ddpm-shortcut\[images\]'"):
            call()


def test_torchvision_is_not_imported() -> None:
    unet2d(small_architecture(8, 1), (1, 8, 8))
    assert "diffusers.models.unets.unet_2d" in sys.modules and "torchvision" not in sys.modules


def test_the_keywords_are_those_of_diffusers() -> None:
    config = unet2d(replace(OTHER, attention_head_dim=4), (3, 8, 12)).config
    expected = {**asdict(OTHER), "attention_head_dim": 4, "in_channels": 3, "out_channels": 3, "sample_size": (8, 12)}
    assert {name: config[name] for name in expected} == expected and config["dropout"] == 0
