"""A saved agent for the commands that read one."""

from pathlib import Path

import pytest

from agents.core.task import Task
from agents.zoo import find


@pytest.fixture(scope="session")
def checkpoint(small_kwargs: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DDPO, not trained, on two steps."""
    task = Task(**small_kwargs, num_envs=8)  # type: ignore[arg-type]
    return find("ddpo").make(task, 0).save(tmp_path_factory.mktemp("agent") / "agent")
