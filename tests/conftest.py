"""Settings of the whole suite."""

import pytest
import torch


def pytest_configure() -> None:
    torch.set_num_threads(1)  # two workers share two cores; a second thread each slows both


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
