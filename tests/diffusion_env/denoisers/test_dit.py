"""The patch transformer: patches, conditions, its file, and that it learns."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from diffusion_env.checkpoints import CheckpointError, Header, save_object
from diffusion_env.denoisers.dit import Block, DiTDenoiser, modulated, number_of_weights, patch_side, zeroed
from diffusion_env.denoisers.loading import read_denoiser
from diffusion_env.samplers.denoiser import as_denoiser
from diffusion_env.samplers.schedules import make_schedule
from tests.support import normal, seeded

COSINE = make_schedule("cosine")


def awake(shape: tuple[int, ...], width: int = 32, depth: int = 2, seed: int = 0) -> DiTDenoiser:
    """A network whose gates and last layer, 0 before training, are random."""
    network = DiTDenoiser(shape, COSINE, width, depth, seeded(seed), "epsilon")
    draws = seeded(seed + 1)
    with torch.no_grad():
        for weight in network.parameters():
            if not weight.any():
                weight.copy_(0.1 * torch.randn(weight.shape, generator=draws))
    return network


@pytest.mark.parametrize(
    ("shape", "patch"),
    [((1, 8, 8), 2), ((1, 16, 16), 4), ((1, 28, 28), 4), ((3, 32, 32), 4), ((1, 9, 9), 1), ((1, 8, 20), 2)],
)
def test_the_patch_follows_from_the_shape(shape: tuple[int, ...], patch: int) -> None:
    assert patch_side(shape) == patch
    network = DiTDenoiser(shape, COSINE, 8, 1)
    assert network.positions.shape == (shape[1] * shape[2] // patch**2, 8)
    assert network(normal(2, *shape), torch.ones(2)).shape == (2, *shape)


def test_points_are_refused() -> None:
    with pytest.raises(ValueError, match=r"events of shape \(2,\), but it takes images .*'mlp'"):
        DiTDenoiser((2,), COSINE)


@pytest.mark.parametrize("shape", [(2, 8, 8), (3, 8, 12)])
def test_a_pixel_stays_where_it_is(shape: tuple[int, ...]) -> None:
    """Without blocks and with the identity between patches and tokens, the image comes back in its order."""
    numbers = shape[0] * 4
    network = DiTDenoiser(shape, COSINE, numbers, 1, output="epsilon")
    with torch.no_grad():
        network.blocks = nn.ModuleList()
        network.positions.zero_()
        for layer in (network.embed, network.out):
            zeroed(layer).weight.copy_(torch.eye(numbers))
    x = normal(2, *shape)
    found = network(x, torch.ones(2))
    patches = x.unfold(2, 2, 2).unfold(3, 2, 2)  # (N, C, h, w, 2, 2)
    mean, std = patches.mean((1, 4, 5)), patches.var((1, 4, 5), correction=0).add(1e-5).sqrt()

    def per_pixel(value: torch.Tensor) -> torch.Tensor:
        return value.repeat_interleave(2, 1).repeat_interleave(2, 2).unsqueeze(1)

    torch.testing.assert_close(found, (x - per_pixel(mean)) / per_pixel(std), rtol=1e-4, atol=1e-5)


def test_it_is_the_zero_function_before_training_and_every_weight_gets_a_gradient() -> None:
    fresh, x = DiTDenoiser((1, 8, 8), COSINE, 32, 2, seeded(0)), normal(3, 1, 8, 8)
    assert not fresh(x, torch.ones(3)).any()
    network = awake((1, 8, 8))
    network(x, torch.tensor([1.0, 300.0, 900.0])).square().mean().backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_a_block_sees_its_level_and_mixes_patches() -> None:
    block, tokens, level = Block(16, seeded(0)), normal(2, 5, 16), normal(2, 16, seed=1)
    assert torch.equal(block(tokens, level), tokens)  # gates at 0
    nn.init.normal_(block.modulation.weight, generator=seeded(1))
    changed = block(tokens, level)
    assert not torch.allclose(block(tokens, level.flip(0)), changed, atol=1e-2)
    other = tokens.clone()
    other[:, 4] += 1 - 2 * torch.arange(16) / 15
    assert not torch.allclose(block(other, level)[:, 0], changed[:, 0], atol=1e-3)


def test_modulation_is_of_normalised_tokens() -> None:
    tokens, shift, scale = 3 + 5 * normal(2, 4, 64), normal(2, 1, 64, seed=1), normal(2, 1, 64, seed=2)
    plain = (tokens - tokens.mean(-1, keepdim=True)) / tokens.var(-1, correction=0, keepdim=True).add(1e-5).sqrt()
    torch.testing.assert_close(modulated(tokens, shift, scale), plain * (1 + scale) + shift, rtol=1e-4, atol=1e-4)


def test_it_is_asked_with_any_batch_and_time() -> None:
    denoiser, x, times = as_denoiser(awake((1, 8, 8))), normal(3, 4, 1, 8, 8), torch.tensor([979.0, 500.5, 1.0])
    found = denoiser(x, times.unsqueeze(-1))
    for k in range(3):
        torch.testing.assert_close(found[k], denoiser(x[k], times[k]), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found[0], denoiser(x[0], times[1]), atol=1e-2)


def test_a_saved_network_comes_back(tmp_path: Path) -> None:
    saved = awake((1, 8, 8), 24, seed=4)
    loaded = read_denoiser(saved.save(tmp_path / "net"))
    x, time = normal(3, 1, 8, 8), torch.tensor([1.0, 30.5, 1000.0])
    assert torch.equal(loaded(x, time), saved(x, time)) and loaded.config == saved.config
    assert isinstance(loaded, DiTDenoiser) and loaded.blocks[0].heads == 3


@pytest.mark.parametrize(("shape", "width", "depth"), [((1, 8, 8), 32, 2), ((3, 9, 12), 24, 1)])
def test_the_number_of_weights_is_known_before_they_are_made(shape: tuple[int, ...], width: int, depth: int) -> None:
    made = DiTDenoiser(shape, COSINE, width, depth).parameters()
    assert number_of_weights(shape, width, depth) == sum(weight.numel() for weight in made)


@pytest.mark.parametrize(
    "change", [{"width": 8192, "depth": 128}, {"width": 512, "depth": 128}, {"width": 8192, "shape": [1, 255, 257]}]
)
def test_a_file_that_promises_more_weights_than_it_holds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    """Long and many tensors let the single sizes pass; no network is begun."""
    network = DiTDenoiser((1, 8, 8), COSINE, 32, 1)
    long = {"long": torch.zeros(8192)} | {f"layer {i}": torch.zeros(1) for i in range(128)}
    header = Header("denoiser", "dit", asdict(network.config) | change)
    path = save_object(tmp_path / "net", header, {"weights": network.state_dict() | long})
    made: list[DiTDenoiser] = []
    monkeypatch.setattr(DiTDenoiser, "__init__", lambda self, *args, **kwargs: made.append(self))
    with pytest.raises(CheckpointError, match=r"transformer .* weights, more than the [\d,]+ numbers"):
        read_denoiser(path)
    assert not made


def test_weights_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (awake((1, 8, 8), seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])


def test_the_default_has_the_stated_number_of_weights() -> None:
    network = DiTDenoiser((1, 28, 28), COSINE, *DiTDenoiser.default_size((1, 28, 28)))
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(1.2e6, rel=0.05)
