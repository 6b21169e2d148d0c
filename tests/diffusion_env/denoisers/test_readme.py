"""The folder's page: its code runs, and it names the files that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

import diffusion_env.denoisers as folder
from diffusion_env.evaluation.metrics import sliced_wasserstein
from tests.support import files_beside, files_on_the_map

README = Path(folder.__path__[0]) / "README.md"


def test_the_code_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(block, str(README), "exec"), names)
    assert names["network"].output == "flow" and names["points"].shape == (1000, 2)
    reference = names["data"].sample(1000, torch.Generator().manual_seed(1), held_out=True)
    found, noise = (
        sliced_wasserstein(x, reference, torch.Generator().manual_seed(2))
        for x in (names["x"], torch.randn(1000, 2, generator=torch.Generator().manual_seed(3)))
    )
    assert found < 0.7 * noise


def test_every_file_is_on_the_map() -> None:
    assert files_on_the_map(README) == files_beside(README)
