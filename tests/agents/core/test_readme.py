"""The README's block runs; its maps name every file and joint there is."""

import re
from pathlib import Path

import torch

from agents import IPMAgent
from agents.algorithms import policy_gradient
from agents.algorithms.presets import AGENTS
from tests.support import files_beside

ROOT = Path(__file__).resolve().parents[3] / "agents"
README = (ROOT / "core" / "README.md").read_text(encoding="utf-8")


def test_the_block_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(block, "README block", "exec"), names)
    x0, agent = names["x0"], names["agent"]
    assert isinstance(x0, torch.Tensor) and x0.shape == (1_000, 2)
    assert isinstance(agent, IPMAgent) and agent.name == "MyPG" and agent.iteration == 2


def test_the_maps_name_every_file() -> None:
    """But for a file of `AGENTS` that is added: a new algorithm is found through its preset."""
    named = {f"{where.split(':')[0].rpartition('.')[2]}.py" for where in AGENTS.values()}
    for folder, found_otherwise in (("core", set()), ("algorithms", named)):
        page = ROOT / folder / "README.md"
        files = set(re.findall(r"`(\w+\.py)`", page.read_text(encoding="utf-8")))
        assert files_beside(page) - found_otherwise <= files, folder


def test_the_joints_are_there() -> None:
    joints = re.findall(r"^\| `(\w+)` \|", README[README.index("## The joints") :], flags=re.MULTILINE)
    assert len(joints) > 5 and all(hasattr(IPMAgent, joint) for joint in joints)
    text = (ROOT / "algorithms" / "README.md").read_text(encoding="utf-8")
    (order,) = re.findall(r"from the top down: (.*?)\. `IPM", text, flags=re.DOTALL)
    assert all(hasattr(policy_gradient, name) for name in re.findall(r"`(\w+)`", order))


def test_the_files_of_one_step_are_there() -> None:
    (sentence,) = re.findall(r"read in six files: (.*?)\n\n", README, flags=re.DOTALL)
    files = re.findall(r"`(\w+/\w+\.py)`", sentence)
    assert len(files) == len(set(files)) == 6 and all((ROOT / name).is_file() for name in files)
