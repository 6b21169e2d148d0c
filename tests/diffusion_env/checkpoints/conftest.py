"""A checkpoint that is whole."""

from pathlib import Path

import pytest
import torch

from diffusion_env.checkpoints import save_checkpoint


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A file of a tensor and a number, with a header."""
    return save_checkpoint(tmp_path / "a", {"w": torch.arange(6.0).reshape(2, 3), "lr": 1e-3}, {"step": 7})
