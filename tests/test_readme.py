"""Every Python block of the README runs when it is pasted alone, and the output it shows is what it prints."""

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import tyro

from agents.cli import main, parse
from benchmarks import compare
from benchmarks.comparison.protocol import Protocol
from diffusion_env.critics import CRITICS
from diffusion_env.evaluation.protocol import METRICS
from diffusion_env.networks.bodies import BODIES

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


def needs_the_file(block: str) -> bool:
    """Whether it imports the file that another block holds."""
    return re.search(r"^from my_pg import", block, flags=re.MULTILINE) is not None


def printed_alone(block: str) -> dict[str, Any]:
    """The metrics without the dearest ones that the block does not print; no metric draws from another's stream."""
    dear = ("mmd", "recall", "auc_boosting", "auc_neighbours", "refitted_ipm")
    return {name: metric for name, metric in METRICS.items() if name not in dear or name in block}


ALONE = [(block, shown) for block, shown in BLOCKS if not needs_the_file(block)]


@pytest.mark.parametrize(("block", "shown"), ALONE, ids=[title(block) for block, _ in ALONE])
def test_a_python_block_runs_alone_and_prints_what_is_shown(
    block: str, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    own = mock.patch.dict(CRITICS), mock.patch.dict(BODIES)  # a block may add one of its own
    with own[0], own[1], mock.patch.dict(METRICS, printed_alone(block), clear=True):
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


def commands_of_the_readme(program: str) -> list[list[str]]:
    """The words behind ``program`` of every shell line that starts with it."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith(f"{program} ")]
    return [shlex.split(line, comments=True)[len(program.split()) :] for line in lines]


def test_the_algorithm_of_the_readme_is_trained_by_name_and_loaded_as_written(algorithm_file: Path) -> None:
    (train,) = (words for words in commands_of_the_readme("ddpm-shortcut") if "my_pg:MyPG" in words)
    few = "--num-envs 8 --total-timesteps 400 --measure-samples 20 --no-progress-bar"
    assert main([*train, *few.split()]) == 0
    (block,) = (block for block, _ in BLOCKS if needs_the_file(block))
    sys.modules.pop(algorithm_file.stem)
    names: dict[str, Any] = {}
    exec(compile(block, "README block", "exec"), names)
    assert type(names["agent"]) is names["MyPG"] and names["agent"].num_timesteps >= 400


def test_the_algorithm_of_the_readme_gets_its_row_in_the_comparison(
    algorithm_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command of the page with a small budget, small measurements and no results of others beside it."""
    (words,) = commands_of_the_readme("python -m benchmarks.compare")
    config = tyro.cli(compare.CompareConfig, args=words)
    assert (config.tasks, config.seeds) == (("swiss_roll_k10",), (0, 1))
    sizes = Protocol(2, num_samples=300, w1_samples=100, refit_steps=3, curve_points=3, curve_samples=300)
    tiny = replace(config, scale=1e-3, processes=1, protocol=sizes, results=Path("results"))
    assert compare.main(tiny) == 0
    printed = capsys.readouterr().out
    assert "`my_pg` (my_pg:MyPG) beside the grid `main` on `swiss_roll_k10`" in printed
    assert re.search(r"^\| \*\*`my_pg`\*\* \| 2 \|", printed, flags=re.MULTILINE) and "missing" not in printed


def test_the_commands_of_the_readme_are_understood(algorithm_file: Path) -> None:
    commands = commands_of_the_readme("ddpm-shortcut")
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
