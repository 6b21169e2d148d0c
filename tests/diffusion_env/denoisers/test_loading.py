"""From names, paths and modules to denoisers; the table of kinds; and the shipped weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffusion_env.checkpoints import CheckpointError, Header, save_object
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.base import NetworkDenoiser
from diffusion_env.denoisers.loading import DENOISERS, denoiser_class, load_denoiser, read_denoiser, shipped_weights
from diffusion_env.denoisers.mlp import EpsMLP
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.denoiser import EpsDenoiser, as_denoiser
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import sample
from tests.support import normal, small_network

NAMES = ["swiss_roll", "moons", "gaussians8", "gaussians25", "checkerboard", "pinwheel", "rings", "spirals"]
COSINE = make_schedule("cosine")


def test_a_denoiser_is_found_by_name_path_or_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = small_network((3,))
    mine.save(tmp_path / "swiss_roll")
    for given in (tmp_path / "swiss_roll", str(tmp_path / "swiss_roll.safetensors")):
        assert load_denoiser(given, "points", (3,)).shape == (3,)
    assert load_denoiser(mine, "points", (3,)) is mine
    monkeypatch.chdir(tmp_path)  # a file here that bears a shipped name must not replace what is shipped
    assert load_denoiser(None, "swiss_roll", (2,)).shape == (2,)
    assert load_denoiser("swiss_roll", "points", (2,)).shape == (2,)


@pytest.mark.parametrize(
    ("denoiser", "error", "message"),
    [
        (None, FileNotFoundError, r"for 'points': .* shipped \['checkerboard', .*'swiss_roll'\].*pretrain"),
        ("nowhere.safetensors", FileNotFoundError, r"'nowhere.safetensors': it is neither a file nor one"),
        ("moons", ValueError, r"shape \(2,\) but the data have shape \(1, 8, 8\)"),
        (small_network(), ValueError, r"shape \(2,\) but the data have shape \(1, 8, 8\)"),
        (torch.nn.Linear(2, 2), TypeError, r"attributes .shape .* and .schedule .*; received Linear"),
        (17, TypeError, r"received int"),
    ],
)
def test_what_is_no_denoiser_for_the_data_is_refused(denoiser: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_denoiser(denoiser, "points", (1, 8, 8))


class Gain(NetworkDenoiser):
    """A kind of a test's own: it predicts its output times x, in flat batches."""

    kind = "gain"

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.prediction, self.gain = self.output, torch.nn.Parameter(torch.ones(self.width))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        assert time.shape == x.shape[:1]
        return self.gain.mean() * x


def test_a_new_kind_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Gain((2,), make_schedule("karras", 50), 3, 1, output="sample")
    path = saved.save(tmp_path / "gain")
    with pytest.raises(CheckpointError, match=r"kind 'gain'; the known kinds are \['dit', 'mlp', 'unet'\]\. Add its"):
        load_denoiser(path, "points", (2,))
    monkeypatch.setitem(DENOISERS, "gain", Gain)
    network = read_denoiser(path)
    assert isinstance(network, Gain) and network.config == saved.config
    denoiser = load_denoiser(path, "points", (2,))
    assert isinstance(denoiser, EpsDenoiser)  # it predicts samples, one time for each
    x = normal(3, 4, 2)
    assert denoiser(x, torch.tensor([[40.0], [20.0], [3.0]])).shape == x.shape
    assert load_denoiser(network, "points", (2,)).shape == (2,)


def test_an_unknown_kind_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    config = {"shape": [2], "schedule": "cosine", "num_levels": 1000, "width": 16, "depth": 2}
    for name in ("evil:Evil", "os.system", "diffusion_env.denoisers.mlp:EpsMLP"):
        path = save_object(tmp_path / "net", Header("denoiser", name, config), {"weights": {}})
        with pytest.raises(CheckpointError, match=r"holds a denoiser of kind .*; the known kinds are \['dit', "):
            load_denoiser(path, "points", (2,))
    with pytest.raises(ValueError, match=r"Unknown kind of denoiser 'evil'. Choose one of \['dit', 'mlp', 'unet'\]"):
        denoiser_class("evil")


def test_the_shipped_weights_are_small() -> None:
    files = {path.stem: path.stat().st_size for path in shipped_weights("x").parent.glob("*")}
    assert set(files) == set(NAMES)
    assert sum(files.values()) < 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_shipped_networks_sample_their_data(name: str) -> None:
    data = load_dataset(name)
    denoiser = load_denoiser(None, name, data.shape)

    def distance(net, num_steps):
        table = make_table("ddpm", net.schedule, num_steps)
        drawn = sample(table, net, 4_000, torch.Generator().manual_seed(100))
        reference = data.sample(4_000, torch.Generator().manual_seed(101), held_out=True)
        return sliced_wasserstein(drawn, reference, torch.Generator().manual_seed(102))

    # Network units. The floor at this count is 0.03, for gaussians25 0.07: shares of modes are drawn too.
    few, many = distance(denoiser, 4), distance(denoiser, 100)
    assert many < 0.075 and many < 0.8 * few
    assert distance(EpsMLP((2,), denoiser.schedule), 10) > 2 * many  # negative control: untrained


@pytest.mark.parametrize("denoiser", ["", "a\0b", "x" * 5_000, "../moons"])
def test_a_name_that_no_file_has_lists_the_shipped_ones(denoiser: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither a file nor one of the shipped .*'moons'"):
        load_denoiser(denoiser, "moons", (2,))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_networks_of_images_on_an_accelerator(kind: str) -> None:
    network, x = DENOISERS[kind]((1, 8, 8), COSINE, 8, 1), normal(3, 4, 1, 8, 8)
    time = torch.tensor([[979.0], [500.5], [1.0]])
    expected = as_denoiser(network)(x, time)
    on_device = as_denoiser(network.cuda(), "cuda")(x.cuda(), time.cuda())
    torch.testing.assert_close(on_device.cpu(), expected, rtol=1e-2, atol=1e-2)  # TF32
