"""The README's Python blocks run in order, and the output it shows is what they print."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
NUMBER = re.compile(r"-?\d+\.\d+")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.DOTALL)


def same_output(shown: str, printed: str, tolerance: float = 0.35) -> bool:
    """Equal text; numbers with a decimal point may differ by ``tolerance`` (other processors round differently)."""
    if NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", printed.strip()):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(float(b) == pytest.approx(float(a), rel=tolerance, abs=1e-12) for a, b in pairs)


def test_python_blocks_run_and_print_what_is_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    python, shown = blocks("python"), blocks("text")
    assert len(python) >= 3 and len(shown) == 1
    for i, block in enumerate(python):
        exec(compile(block, f"README block {i}", "exec"), names)
        printed = capsys.readouterr().out
        if i == 0:
            assert same_output(shown[0], printed), printed


def test_comparison_can_fail():
    assert same_output("SW2 = 0.0100 at 3", "SW2 = 0.0110 at 3")
    assert not same_output("SW2 = 0.0100 at 3", "SW2 = 0.0200 at 3")
    assert not same_output("SW2 = 0.0100 at 3", "SW2 = 0.0100 at 4")


def test_folders_and_commands_of_the_readme_exist():
    text = README.read_text()
    for folder in re.findall(r"^\| `(\w+)/`", text, flags=re.MULTILINE):
        assert (README.parent / folder).is_dir(), folder
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
