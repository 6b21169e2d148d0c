"""Checkpoints of FastDPM and SFT-PG, against a small network in their layout that is written here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, silu

from diffusion_env.checkpoints import CheckpointError
from diffusion_env.denoisers.loading import load_denoiser, read_denoiser
from diffusion_env.denoisers.official import architecture_of, diffusers_name, unwrapped
from diffusion_env.denoisers.unet import unet2d
from tests.support import normal, seeded

CH, PIXELS = 32, 32
PARTS, ATTENTION = ("norm1", "conv1", "temb_proj", "norm2", "conv2"), ("norm", "q", "k", "v", "proj_out")


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels, eps=1e-6)


class Residual(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(n_in), nn.Conv2d(n_in, n_out, 3, padding=1)
        self.temb_proj = nn.Linear(4 * CH, n_out)
        self.norm2, self.conv2 = norm(n_out), nn.Conv2d(n_out, n_out, 3, padding=1)
        if n_in != n_out:
            self.nin_shortcut = nn.Conv2d(n_in, n_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(silu(self.norm1(x))) + self.temb_proj(silu(emb))[:, :, None, None]
        h = self.conv2(silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.norm = norm(c)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(c, c, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).flatten(2) for layer in (self.q, self.k, self.v))  # (N, C, pixels)
        weights = (torch.einsum("nci,ncj->nij", q, k) / math.sqrt(x.shape[1])).softmax(-1)
        return x + self.proj_out(torch.einsum("nij,ncj->nci", weights, v).view_as(x))


class Resolution(nn.Module):
    def __init__(self, sizes: list[tuple[int, int]], attended: bool) -> None:
        super().__init__()
        self.block = nn.ModuleList(Residual(*size) for size in sizes)
        self.attn = nn.ModuleList(Attention(size[1]) for size in sizes if attended)

    def step(self, j: int, x: Tensor, emb: Tensor) -> Tensor:
        h: Tensor = self.block[j](x, emb)
        return self.attn[j](h) if len(self.attn) else h


class Sampling(nn.Module):
    def __init__(self, c: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c, c, 3, stride)


class Official(nn.Module):
    """Channels (CH, 2 CH), one residual block per resolution, attention at the coarser."""

    temb: Any
    down: Any
    mid: Any
    up: Any

    def __init__(self) -> None:
        super().__init__()
        self.temb = nn.Module()
        self.temb.dense = nn.ModuleList([nn.Linear(CH, 4 * CH), nn.Linear(4 * CH, 4 * CH)])
        self.conv_in = nn.Conv2d(3, CH, 3, padding=1)
        self.down = nn.ModuleList([Resolution([(CH, CH)], False), Resolution([(CH, 2 * CH)], True)])
        self.down[0].downsample = Sampling(CH, 2)
        self.mid = nn.Module()
        self.mid.block_1, self.mid.attn_1, self.mid.block_2 = Residual(64, 64), Attention(64), Residual(64, 64)
        self.up = nn.ModuleList([Resolution([(96, 32), (64, 32)], False), Resolution([(128, 64), (96, 64)], True)])
        self.up[1].upsample = Sampling(64, 1)
        self.norm_out, self.conv_out = norm(CH), nn.Conv2d(CH, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        frequencies = torch.exp(-math.log(10_000) * torch.arange(CH // 2) / (CH // 2 - 1))
        phases = t[:, None] * frequencies
        emb = self.temb.dense[0](torch.cat([phases.sin(), phases.cos()], 1))
        emb = self.temb.dense[1](silu(emb))
        kept = [self.conv_in(x)]
        kept.append(self.down[0].step(0, kept[-1], emb))
        half = self.down[0].downsample.conv
        kept.append(conv2d(pad(kept[-1], (0, 1, 0, 1)), half.weight, half.bias, stride=2))
        kept.append(self.down[1].step(0, kept[-1], emb))
        h = self.mid.block_2(self.mid.attn_1(self.mid.block_1(kept[-1], emb)), emb)
        for j in range(2):
            h = self.up[1].step(j, torch.cat([h, kept.pop()], 1), emb)
        twice = self.up[1].upsample.conv
        h = conv2d(interpolate(h, scale_factor=2), twice.weight, twice.bias, padding=1)
        for j in range(2):
            h = self.up[0].step(j, torch.cat([h, kept.pop()], 1), emb)
        return self.conv_out(silu(self.norm_out(h)))


@pytest.fixture(scope="module")
def official() -> Official:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Official().requires_grad_(False)
    draws = seeded(1)
    for name, weight in network.named_parameters():
        if "norm" in name:  # 1 and 0 would hide where they go
            weight.add_(0.3 * torch.randn(weight.shape, generator=draws))
    return network


def wrapped(kind: str, weights: dict[str, Tensor]) -> Any:
    other = {name: weight + 1 for name, weight in weights.items()}
    return {
        "plain": weights,
        "model": {"model": weights, "epoch": 3},
        "state_dict": {"state_dict": weights, "epoch": 3, "fid": 4.8},
        "module": {f"module.{name}": weight for name, weight in weights.items()},
        "list": [other, {"lr": 1e-4}, 3, 100, {f"module.{name}": weight for name, weight in weights.items()}],
    }[kind]


@pytest.mark.parametrize("kind", ["plain", "model", "state_dict", "module", "list"])
def test_the_answers_are_those_of_the_official_network(tmp_path: Path, official: Official, kind: str) -> None:
    path = tmp_path / "model.ckpt.pth"
    torch.save(wrapped(kind, official.state_dict()), path, _use_new_zipfile_serialization=kind != "plain")
    network = read_denoiser(path)
    assert (network.shape, network.prediction, network.schedule.name) == ((3, PIXELS, PIXELS), "epsilon", "linear")
    x, t = normal(3, 3, PIXELS, PIXELS), torch.tensor([0.0, 37.25, 999.0])
    torch.testing.assert_close(network(x, t + 1), official(x, t), rtol=0, atol=5e-6)
    assert not torch.allclose(network(x, t), official(x, t), rtol=0, atol=1e-4)  # negative control
    assert load_denoiser(path, "cifar10", (3, PIXELS, PIXELS)).shape == network.shape


@pytest.mark.parametrize(
    ("mult", "pixels", "keys", "parameters"),
    [((1, 2, 2, 2), 32, 328, 35_746_307), ((1, 2, 2, 2, 4), 64, 390, 78_700_803)],
)
def test_the_published_names_are_those_of_the_published_networks(
    mult: tuple[int, ...], pixels: int, keys: int, parameters: int
) -> None:
    """CIFAR-10 and CelebA, by the rule of their names: 2 residual blocks down and 3 up, attention at 16 pixels."""
    last, attended = len(mult) - 1, {32: 1, 64: 2}[pixels]
    layers = ["temb.dense.0", "temb.dense.1", "conv_in", "norm_out", "conv_out"]
    layers += [f"mid.block_{j}.{part}" for j in (1, 2) for part in PARTS] + [f"mid.attn_1.{part}" for part in ATTENTION]
    for i in range(last + 1):
        for way, blocks in (("down", 2), ("up", 3)):
            layers += [f"{way}.{i}.block.{j}.{part}" for j in range(blocks) for part in PARTS]
            layers += [f"{way}.{i}.attn.{j}.{part}" for j in range(blocks) for part in ATTENTION if i == attended]
        layers += [f"up.{i}.block.{j}.nin_shortcut" for j in range(3)]  # its input has the channels of the way down too
        layers += [f"down.{i}.block.0.nin_shortcut"] if i > 0 and mult[i] != mult[i - 1] else []
        layers += [f"down.{i}.downsample.conv"] if i < last else []
        layers += [f"up.{i}.upsample.conv"] if i > 0 else []
    names = {diffusers_name(f"{layer}.{leaf}", last) for layer in layers for leaf in ("weight", "bias")}
    weights = {f"down.{i}.block.{j}.conv2.weight": torch.empty(128 * m, 1) for i, m in enumerate(mult) for j in (0, 1)}
    weights |= {f"down.0.block.{j}.conv1.weight": torch.empty(1) for j in (0, 1)}
    weights |= {"conv_in.weight": torch.empty(128, 3, 3, 3), f"down.{attended}.attn.0.norm.weight": torch.empty(1)}
    architecture, shape = architecture_of(weights, Path("model.ckpt"))
    with torch.device("meta"):
        expected = unet2d(architecture, shape).state_dict()
    assert names == set(expected) and len(names) == keys and shape == (3, pixels, pixels)
    assert sum(weight.numel() for weight in expected.values()) == parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra.weight": torch.ones(1)}, r"1 of its \d+ keys are not among theirs, the first \['extra.weight'\]"),
        ({"mid.attn_1.q.weight": None}, r"'mid_block.attentions.0.to_q.weight' is missing from it"),
        ({"conv_in.weight": None}, r"has 'conv_in.weight', .*its first keys are \['conv_in.bias', "),
        (
            {"conv_out.weight": torch.ones(3, 8, 3, 3)},
            r"'conv_out.weight' has shape \(3, 8, 3, 3\) where \(3, 32, 3, 3\)",
        ),
        ({"down.0.block.0.conv2.weight": torch.ones(20, 1)}, r"holds no network that can be built: .*\[20\]"),
        ({"down.0.attn.0.norm.weight": torch.ones(32)}, r"attention at one resolution"),
        ({"down.7.block.x.conv1.weight": torch.ones(1)}, r"the first \['down.7.block.x.conv1.weight'\]"),
    ],
)
def test_other_weights_are_refused(
    tmp_path: Path, official: Official, change: dict[str, Tensor | None], message: str
) -> None:
    weights = {**official.state_dict(), **change}
    torch.save({name: one for name, one in weights.items() if one is not None}, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=message):
        read_denoiser(tmp_path / "model.ckpt")


@pytest.mark.parametrize("content", [{"model": 3}, [1, 2, 3, 4, 5], {"model": {}}, "text"])
def test_a_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"does not hold a state dict"):
        unwrapped(content, path)
