"""The page of the networks runs, and the body it shows does what it says."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

import diffusion_env.networks
from diffusion_env.networks.bodies import BODIES, make_body
from tests.support import files_beside, files_on_the_map

README = Path(diffusion_env.networks.__file__).parent / "README.md"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's blocks define."""
    found: dict[str, Any] = {}
    with patch.dict(BODIES):
        for i, block in enumerate(re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)):
            exec(compile(block, f"README block {i}", "exec"), found)
    return found


def test_shapes_are_as_written(names: dict[str, Any]) -> None:
    assert names["scores"].shape == (32, 1) and names["values"].shape == (10, 32, 1)
    assert names["env"].unwrapped.critic.config["body"] == "normed"


def test_the_shown_body_does_not_see_brightness(names: dict[str, Any]) -> None:
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with patch.dict(BODIES, normed=names["normed_stack"]):
        normed, conv = (make_body((1, 8, 8), 1, torch.Generator(), body=body) for body in ("normed", None))
    torch.testing.assert_close(normed(3 * x + 1), normed(x), rtol=1e-3, atol=1e-4)
    assert not torch.allclose(conv(3 * x + 1), conv(x), atol=1e-2)


def test_every_file_is_on_the_map() -> None:
    assert files_on_the_map(README) == files_beside(README)
