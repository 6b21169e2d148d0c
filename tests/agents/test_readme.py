"""The pages of the agents: their Python blocks run in order, their commands parse, and the files they name exist."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import agents
from agents.cli import parse

FOLDER = Path(agents.__file__).parent
PAGES = sorted(page for page in FOLDER.rglob("README.md") if page.parent.name not in ("core", "algorithms"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    found = blocks(FOLDER / "README.md", "python")
    assert found
    for i, block in enumerate(found):
        exec(compile(block, f"README block {i}", "exec"), names)
    assert "2305.13301 0.1" in capsys.readouterr().out


def test_commands_are_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_file.py").write_text(
        blocks(FOLDER / "README.md", "python")[1].split("\n\n\nalgorithm")[0]
        + "\nfrom agents import IPMAgent\nclass MyPG(IPMAgent):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_file", raising=False)
    lines = [line for block in blocks(FOLDER / "README.md", "sh") for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        assert program == "ddpm-shortcut" and parse(words)
    sys.modules.pop("my_file", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_named_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)*\w+(?:\.py|/))`", text))
    assert [name for name in named if not any((root / name).exists() for root in (page.parent, FOLDER.parent))] == []


def test_the_floor_is_small() -> None:
    entries = [entry for entry in FOLDER.iterdir() if entry.name != "__pycache__"]
    assert len(entries) <= 14
