"""Every generated set, drawn once for the tests of this folder."""

import pytest

from diffusion_env.data.dataset import Dataset
from diffusion_env.data.named import DATASETS, load_dataset


@pytest.fixture(scope="session")
def generated() -> dict[str, Dataset]:
    return {name: load_dataset(name, seed=3) for name in DATASETS}
