"""The README's block runs; its maps name every file and joint there is."""

import re
from pathlib import Path

import torch

from agents import IPMAgent
from agents.algorithms import policy_gradient

AGENTS = Path(__file__).resolve().parents[3] / "agents"
README = (AGENTS / "core" / "README.md").read_text(encoding="utf-8")


def test_the_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README block", "exec"), names)
    x0, agent = names["x0"], names["agent"]
    assert isinstance(x0, torch.Tensor) and x0.shape == (1_000, 2)
    assert isinstance(agent, IPMAgent) and agent.name == "MyPG" and agent.iteration == 2


def test_the_maps_name_every_file() -> None:
    for folder in ("core", "algorithms"):
        text = (AGENTS / folder / "README.md").read_text(encoding="utf-8")
        files = {path.name for path in (AGENTS / folder).glob("*.py")} - {"__init__.py"}
        assert files - set(re.findall(r"`(\w+\.py)`", text)) == set(), folder


def test_the_joints_are_there() -> None:
    joints = re.findall(r"^\| `(\w+)` \|", README[README.index("## The joints") :], flags=re.MULTILINE)
    assert len(joints) > 5 and all(hasattr(IPMAgent, joint) for joint in joints)
    text = (AGENTS / "algorithms" / "README.md").read_text(encoding="utf-8")
    (order,) = re.findall(r"from the top down: (.*?)\. `IPM", text, flags=re.DOTALL)
    assert all(hasattr(policy_gradient, name) for name in re.findall(r"`(\w+)`", order))


def test_the_files_of_one_step_are_there() -> None:
    (sentence,) = re.findall(r"read in six files: (.*?)\n\n", README, flags=re.DOTALL)
    files = re.findall(r"`(\w+/\w+\.py)`", sentence)
    assert len(files) == len(set(files)) == 6 and all((AGENTS / name).is_file() for name in files)
