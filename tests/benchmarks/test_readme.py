"""The page of the benchmarks: its Python runs, its files exist, its commands parse."""

import re
import shlex
from pathlib import Path

import pytest
import tyro

from benchmarks.compare import CompareConfig
from benchmarks.comparison.grids import GRIDS
from benchmarks.toy import ToyConfig

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^python -m benchmarks\.(compare|toy) ([^#\n]*)", TEXT, flags=re.MULTILINE)


def test_python_blocks_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert blocks
    for block in blocks:
        exec(block, names)
    assert len(names["runs"]) == 70  # type: ignore[arg-type]


@pytest.mark.parametrize(("module", "options"), COMMANDS)
def test_commands_parse_and_name_what_there_is(module, options):
    config = tyro.cli(CompareConfig if module == "compare" else ToyConfig, args=shlex.split(options))
    if isinstance(config, CompareConfig):
        assert config.grid == "all" or config.grids[0].selected(config.algorithms, config.tasks, config.seeds)


def test_every_command_of_the_page_was_found():
    assert len(COMMANDS) >= 7 and {module for module, _ in COMMANDS} == {"compare", "toy"}
    assert all(f"--grid {name}" in TEXT for name in GRIDS)


def test_files_and_links_exist():
    table = TEXT.split("## Files")[1]
    for line in re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE):
        first, *others = re.findall(r"`([^`]+)`", line)
        for name in (first, *(str(Path(first).parent / Path(other).name) for other in others)):
            assert (ROOT / "benchmarks" / name).exists(), name
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", TEXT):
        assert (ROOT / "benchmarks" / target).exists(), target
