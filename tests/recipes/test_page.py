"""The blocks of RECIPES.md run, section by section, and print what the page shows."""

import re
from pathlib import Path

import numpy as np
import pytest

import diffusion_env

PAGE = Path(diffusion_env.__file__).parent / "RECIPES.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", flags=re.DOTALL)
NUMBER = re.compile(r"-?\d+\.\d+")
LOGGED = re.compile(r".*\[torchrl\].*\n")  # by its checker of specs, to the standard output of its first import
MAX_LINES = 40

SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE))
RUNNABLE = {title: BLOCK.findall(text) for title, text in SECTIONS.items() if "```python" in text}


def check_output(shown: str, printed: str) -> None:
    """Equal text; numbers with a decimal point may differ by a third (other processors round differently)."""
    assert NUMBER.sub("#", shown.strip()) == NUMBER.sub("#", printed.strip())
    numbers, theirs = (np.array(NUMBER.findall(text), float) for text in (shown, printed))
    np.testing.assert_allclose(theirs, numbers, rtol=1 / 3)


@pytest.mark.parametrize("title", RUNNABLE)
def test_blocks_run_and_print_what_is_shown(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for i, (block, shown) in enumerate(RUNNABLE[title]):
        exec(compile(block, f"{title}, block {i}", "exec"), names)
        check_output(shown, LOGGED.sub("", capsys.readouterr().out))


def test_the_comparison_can_fail() -> None:
    check_output("SW2 = 0.010 at 3\n", "SW2 = 0.011 at 3")
    for other in ("SW2 = 0.020 at 3", "SW2 = 0.010 at 4", ""):
        with pytest.raises(AssertionError):
            check_output("SW2 = 0.010 at 3", other)


def test_the_page_is_seen_whole_and_its_blocks_are_short() -> None:
    assert {"CleanRL", "TorchRL"} <= set(RUNNABLE)
    parts = [part for section in RUNNABLE.values() for part in section]
    fences = [PAGE.read_text().count(f"```{language}") for language in ("python", "text")]
    assert [len(parts), sum(bool(shown) for _, shown in parts)] == fences
    assert max(block.count("\n") for block, _ in parts) <= MAX_LINES
