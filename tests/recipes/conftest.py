"""Each recipe starts where a script of its own would."""

import multiprocessing

import pytest


@pytest.fixture(autouse=True)
def start_method_of_the_platform() -> None:
    """Importing torchrl makes "spawn" the start method of the whole process, of other tests too."""
    multiprocessing.set_start_method(None, force=True)
