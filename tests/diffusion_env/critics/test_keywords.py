"""Keywords of a critic's constructor, checked against its annotations."""

import inspect
from typing import Any

import numpy as np
import pytest

from diffusion_env.critics import CRITICS, EnergyCritic
from diffusion_env.critics.keywords import FROM_THE_TASK, checked_keywords


def test_numbers_of_numpy_become_python_s() -> None:
    found = checked_keywords(EnergyCritic, {"width": np.int64(8), "gamma": np.float32(0.5)}, "given")
    assert found == {"width": 8, "gamma": 0.5} and [type(value) for value in found.values()] == [int, float]


@pytest.mark.parametrize("name", sorted(set(CRITICS) - {"frozen"}))
def test_every_constructor_takes_its_own_defaults(name: str) -> None:
    parameters = inspect.signature(CRITICS[name]).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.name not in FROM_THE_TASK}
    assert checked_keywords(CRITICS[name], defaults, "given") == defaults and defaults


class Needy(EnergyCritic):
    """Its keyword ``level`` has no default, ``note`` no annotation of use."""

    name = "needy"

    def __init__(self, shape: Any, seed: int, level: int, note: Any = None) -> None:
        super().__init__(shape, seed)


def test_a_keyword_without_a_default_must_be_given() -> None:
    assert checked_keywords(Needy, {"level": 3, "note": [1]}, "given") == {"level": 3, "note": [1]}
    with pytest.raises(ValueError, match=r"given does not hold.*\['level'\] are missing.*level: an integer"):
        checked_keywords(Needy, {}, "given")


def test_where_they_came_from_is_said() -> None:
    with pytest.raises(TypeError, match=r"^critic_kwargs must be a dict.*received 5"):
        checked_keywords(EnergyCritic, 5, "critic_kwargs")  # type: ignore[arg-type]
