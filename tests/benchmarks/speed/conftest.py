"""Something that stands for a checkout of the official repository."""

import textwrap

import pytest

SCRIPT = """
import argparse, cv2, torch
for epoch in range(300):
    if epoch % 10 == 0:
        sum(i for i in range(200_000))
        print(epoch)
        print("val", torch.tensor(0.5))
        print("w_dis", torch.tensor(0.1 / (1 + epoch)))
"""


@pytest.fixture
def checkout(tmp_path):
    """Something that prints as the official script does; none of its code is here."""
    folder = tmp_path / "toy_exp"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "swiss.pt").touch()
    return tmp_path
