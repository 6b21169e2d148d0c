"""A sampler as a folder of diffusers: the documented loop and diffusers' scheduler walk it as we do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.dit import DiTDenoiser
from diffusion_env.denoisers.exporting import SAMPLER, ddpm_timesteps, loop_columns, scheduler_settings, write_folder
from diffusion_env.denoisers.loading import read_denoiser
from diffusion_env.samplers.denoiser import as_denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.tables import StepTable, ddpm
from diffusion_env.samplers.walk import sample
from tests.support import seeded, small_network, small_unet

COSINE = make_schedule("cosine")
DIGITS = load_dataset("digits")
TABLES = {
    "ddpm": make_table("ddpm", COSINE, 5),
    "ddim": make_table("ddim", COSINE, 3),
    "fastdpm": make_table("fastdpm", COSINE, 4),
    "learned": replace(make_table("ddpm", COSINE, 3), std=torch.tensor([0.9, 0.4, 0.05])),
    "one step": make_table("ddpm", COSINE, 1),
}


def walked(folder: Path, n: int) -> Tensor:
    """The loop of the README."""
    from diffusers import UNet2DModel

    unet, sampler = UNet2DModel.from_pretrained(folder / "unet"), json.loads((folder / SAMPLER).read_text())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, *sampler["shape"], generator=generator)
    with torch.no_grad():
        for step in sampler["steps"]:
            x = step["x_coef"] * x + step["output_coef"] * unet(x, torch.tensor(step["timestep"])).sample
            if step["std"] > 0:
                x = x + step["std"] * torch.randn(x.shape, generator=generator)
    return x


@pytest.mark.parametrize("name", TABLES)
def test_the_loop_draws_our_samples(tmp_path: Path, name: str) -> None:
    network, table = small_unet(seed=1), TABLES[name]
    folder = write_folder(tmp_path / "sampler", as_denoiser(network), table, DIGITS)
    ours, theirs = sample(table, network, 4, seeded(0)), walked(folder, 4)
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)
    other = replace(table, std=table.std + 0.01)
    assert not torch.allclose(sample(other, network, 4, seeded(0)), theirs, atol=1e-3)  # negative control


@pytest.mark.parametrize("output", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_is_folded_into_the_coefficients(tmp_path: Path, output: str) -> None:
    network, table = small_unet(output=output), TABLES["ddpm"]
    folder = write_folder(tmp_path / "sampler", network, table, DIGITS)
    ours = sample(table, network, 4, seeded(0))
    # An untrained network that answers eps takes samples to a hundred, so 1e-5 is of their size.
    torch.testing.assert_close(walked(folder, 4), ours, rtol=1e-5, atol=2e-5)
    again = read_denoiser(folder)
    assert again.prediction == output and np.array_equal(again.schedule.alpha_bar, COSINE.alpha_bar)
    torch.testing.assert_close(sample(table, again, 4, seeded(0)), ours, rtol=1e-6, atol=1e-6)
    others = {one: loop_columns(small_unet(output=one), table)["x_coef"] for one in ("epsilon", "v_prediction")}
    assert not np.allclose(others["epsilon"], others["v_prediction"], atol=1e-2)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_diffusers_scheduler_draws_the_samples_of_a_plain_table(tmp_path: Path, schedule: str) -> None:
    from diffusers import DDPMPipeline, DDPMScheduler

    network = small_unet()
    network.schedule = make_schedule(schedule)
    table = ddpm(network.schedule, [800, 500, 211, 40, 3])
    folder = write_folder(tmp_path / "sampler", network, table, DIGITS)
    pipeline: Any = DDPMPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    scheduler, generator = DDPMScheduler.from_config(pipeline.scheduler.config), torch.Generator().manual_seed(0)
    scheduler.set_timesteps(timesteps=json.loads((folder / SAMPLER).read_text())["ddpm_timesteps"])
    x = torch.randn(4, 1, 8, 8, generator=generator)
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(pipeline.unet(x, t).sample, t, x, generator=generator).prev_sample
    torch.testing.assert_close(x, sample(table, network, 4, seeded(0)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (ddpm(COSINE, [900, 300, 1]), [899, 299, 0]),
        (TABLES["ddpm"], None),  # its last std is 0.01
        (TABLES["fastdpm"], None),
        (ddpm(COSINE, [900, 300, 1], variance="large"), None),
        (ddpm(make_schedule("linear"), [900, 300, 1]), None),
        (replace(TABLES["learned"], time=TABLES["learned"].time.flip(0)), None),
    ],
)
def test_only_plain_tables_have_timesteps(table: StepTable, expected: list[int] | None) -> None:
    assert ddpm_timesteps(COSINE, table) == expected


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid", "karras", "rectified_flow"])
def test_the_scheduler_has_the_noise_of_the_schedule(name: str) -> None:
    from diffusers import DDPMScheduler

    schedule = make_schedule(name, 100)
    settings = scheduler_settings(schedule)
    assert ("trained_betas" in settings) == (name in ("karras", "rectified_flow"))
    np.testing.assert_allclose(DDPMScheduler(**settings).alphas_cumprod, schedule.alpha_bar[1:], rtol=2e-4)


def test_the_folder_says_what_is_needed_beside_the_network(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "sampler", small_unet(), TABLES["learned"], DIGITS)
    content = json.loads((folder / SAMPLER).read_text())
    table = StepTable.from_dict(content["table"])
    assert torch.equal(table.std, TABLES["learned"].std) and torch.equal(table.time, TABLES["learned"].time)
    assert content["data"] == {"name": "digits", "scale": 8.0, "center": 8.0} and content["shape"] == [1, 8, 8]
    assert {path.name for path in folder.iterdir()} == {"model_index.json", "unet", "scheduler", SAMPLER}
    assert [path.name for path in tmp_path.iterdir()] == ["sampler"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (small_network(), r"Only networks of kind 'unet' .* is a EpsMLP\. .*--kind unet"),
        (as_denoiser(DiTDenoiser((1, 8, 8), COSINE, 8, 1)), r"is a DiTDenoiser"),
        (small_unet(output="flow"), r"predicts 'flow', which diffusers' .* \['epsilon', "),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, network: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_folder(tmp_path / "sampler", network, TABLES["ddpm"], DIGITS)
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    folder = write_folder(tmp_path / "empty", small_unet(), TABLES["ddpm"], DIGITS)
    kept = (folder / SAMPLER).read_bytes()
    with pytest.raises(FileExistsError, match=r"empty is there already and is not empty\. Choose another"):
        write_folder(folder, small_unet(), TABLES["ddim"], DIGITS)
    assert (folder / SAMPLER).read_bytes() == kept

    def fails(*arguments: Any) -> None:
        raise OSError("no space")

    monkeypatch.setattr("diffusion_env.denoisers.exporting.write_json", fails)
    with pytest.raises(OSError, match="no space"):
        write_folder(tmp_path / "new", small_unet(), TABLES["ddim"], DIGITS)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]  # nor is half a folder left
