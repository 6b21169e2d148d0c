"""The folder's page: its code runs, and it names the files that are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import torch

import diffusion_env.denoisers as folder
from agents.cli import parse
from diffusion_env.data.named import load_dataset
from diffusion_env.denoisers.exporting import write_folder
from diffusion_env.evaluation.metrics import sliced_wasserstein
from diffusion_env.samplers.named import make_table
from diffusion_env.samplers.schedules import make_schedule
from diffusion_env.samplers.walk import sample
from tests.support import files_beside, files_on_the_map, seeded, small_unet

README = Path(folder.__path__[0]) / "README.md"


FIRST, LOOP = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)


def run(block: str) -> dict[str, Any]:
    """The names that the block makes."""
    names: dict[str, Any] = {}
    exec(compile(block, str(README), "exec"), names)
    return names


def test_the_loop_of_an_exported_folder_draws_our_samples(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    network, table = small_unet(), make_table("fastdpm", make_schedule("cosine"), 4)
    data = load_dataset("digits")
    write_folder("sampler", network, table, data)
    expected = data.to_data(sample(table, network, 16, seeded(0)))
    torch.testing.assert_close(run(LOOP)["pixels"], expected, rtol=0, atol=1e-4)  # of 16 shades


def test_the_commands_have_these_options(tmp_path: Path) -> None:
    shells = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8").replace("\\\n", ""), flags=re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in shells for line in block.splitlines()]
    parsed = [parse(words[1:]) for words in commands if words[0] == "ddpm-shortcut"]
    assert [type(options).__name__ for options in parsed] == ["Pretrain", "Train", "Export"]


def test_the_code_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names = run(FIRST)
    assert names["network"].output == "flow" and names["points"].shape == (1000, 2)
    reference = names["data"].sample(1000, torch.Generator().manual_seed(1), held_out=True)
    found, noise = (
        sliced_wasserstein(x, reference, torch.Generator().manual_seed(2))
        for x in (names["x"], torch.randn(1000, 2, generator=torch.Generator().manual_seed(3)))
    )
    assert found < 0.7 * noise


def test_every_file_is_on_the_map() -> None:
    assert files_on_the_map(README) == files_beside(README)
