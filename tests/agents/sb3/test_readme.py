"""Every Python block of the bridge's page runs, in order."""

import re
from pathlib import Path

import pytest

from agents import sb3

README = Path(sb3.__file__).parent / "README.md"


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert len(blocks) == 5
    for i, block in enumerate(blocks):
        exec(compile(block, f"README block {i}", "exec"), names)
    assert capsys.readouterr().out.endswith("[0, 6400, 12800] 38400\n")


def test_every_name_it_shows_is_offered() -> None:
    """And the package offers nothing that is not there."""
    assert all(hasattr(sb3, name) for name in sb3.__all__)
    shown = set(re.findall(r"from agents\.sb3 import (.+)", README.read_text()))
    assert {name for line in shown for name in line.split(", ")} <= set(sb3.__all__)


def test_another_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'; it offers SB3_ALGORITHMS"):
        sb3.nothing  # noqa: B018
