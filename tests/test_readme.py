"""Every Python block of the README runs when it is pasted alone, and the output it shows is what it prints."""

import re
import shlex
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from unittest import mock

import pytest

from agents.cli import parse
from diffusion_env.critics import CRITICS

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n+```text\n(.*?)```)?", flags=re.DOTALL)
FILE = re.compile(r"# (\w+)\.py\n")
NUMBER = re.compile(r"-?\d+\.\d+")
BLOCKS = BLOCK.findall(README.read_text())


def title(block: str) -> str:
    """The first line that is not an import."""
    return next(line for line in block.splitlines() if line and not line.startswith(("import ", "from ")))


def same_output(shown: str, printed: str, tolerance: float = 0.35) -> bool:
    """Equal text; numbers with a decimal point may differ by ``tolerance`` (other processors round differently)."""
    if NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", printed.strip()):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(printed), strict=True)
    return all(float(b) == pytest.approx(float(a), rel=tolerance, abs=1e-12) for a, b in pairs)


@pytest.mark.parametrize(("block", "shown"), BLOCKS, ids=[title(block) for block, _ in BLOCKS])
def test_a_python_block_runs_alone_and_prints_what_is_shown(
    block: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with mock.patch.dict(CRITICS):  # a block may add a critic of its own
        exec(compile(block, "README block", "exec"), {"__name__": "__main__"})
    assert same_output(shown, capsys.readouterr().out)


def test_comparison_can_fail() -> None:
    assert same_output("SW2 = 0.0100 at 3", "SW2 = 0.0110 at 3")
    assert not same_output("SW2 = 0.0100 at 3", "SW2 = 0.0200 at 3")
    assert not same_output("SW2 = 0.0100 at 3", "SW2 = 0.0100 at 4")


@pytest.fixture
def algorithm_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The block that starts with the name of a file, written to that file in an importable folder."""
    ((name, block),) = [(found[1], block) for block, _ in BLOCKS if (found := FILE.match(block))]
    path = tmp_path / f"{name}.py"
    path.write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop(name, None)


def test_the_algorithm_of_the_readme_is_a_file_that_trains_and_is_short(algorithm_file: Path) -> None:
    module = import_module(algorithm_file.stem)
    agent = module.MyPG(num_envs=16, env_kwargs={"num_steps": 2}, seed=0)
    before = [weight.clone() for weight in agent.policy.parameters()]
    agent.learn(total_timesteps=64)
    assert any(bool((a != b).any()) for a, b in zip(before, agent.policy.parameters(), strict=True))
    assert len([line for line in algorithm_file.read_text().splitlines() if line.strip()]) <= 15


def test_the_commands_of_the_readme_are_understood(algorithm_file: Path) -> None:
    commands = [
        shlex.split(line, comments=True)[1:]
        for block in re.findall(r"```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
        for line in block.splitlines()
        if line.startswith("ddpm-shortcut ")
    ]
    assert {command[0] for command in commands} == {"train", "evaluate", "sample", "tune", "pretrain"}
    for command in commands:
        parse(command)
    with pytest.raises(SystemExit):
        parse([*commands[0], "--no-such-option"])


def test_all_blocks_and_outputs_are_seen() -> None:
    text = README.read_text()
    assert len(BLOCKS) == text.count("```python") >= 3
    assert sum(bool(shown) for _, shown in BLOCKS) == text.count("```text") >= 1


def test_folders_of_the_map_exist_and_so_do_the_files_to_start_with() -> None:
    lines = re.findall(r"^\| `([\w/]+)/` \|.*\|([^|]*)\|$", README.read_text(), flags=re.MULTILINE)
    assert len(lines) >= 10
    for folder, start in lines:
        for name in [".", *re.findall(r"`([\w.]+)`", start)]:
            assert (README.parent / folder / name).exists(), f"{folder}/{name}"
