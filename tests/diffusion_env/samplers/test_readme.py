"""The folder's page: its code runs, and it names the files that are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import diffusion_env.samplers as folder
from diffusion_env.samplers.denoiser import EpsDenoiser
from tests.support import files_beside, files_on_the_map

README = Path(folder.__path__[0]) / "README.md"


def test_the_code_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    exec(compile(block, str(README), "exec"), names)
    denoiser = names["env"].unwrapped.denoiser
    assert isinstance(denoiser, EpsDenoiser) and isinstance(denoiser.network, names["MyNetwork"])
    assert names["terminated"] and names["observation"]["x"].shape == (2,)
    table = names["env"].unwrapped.table
    assert table.start == names["MyNetwork"].schedule.alpha_bar[int(table.time[0])]


def test_every_file_is_on_the_map() -> None:
    assert files_on_the_map(README) == files_beside(README)
