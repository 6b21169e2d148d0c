"""What may be tuned: every point is a valid configuration, the preset itself is one, and there are few dimensions."""

from collections.abc import Callable
from typing import Any

import pytest

from agents.algorithms.presets import PRESETS, preset
from agents.core.spaces import Parameter, Range
from agents.core.task import Task
from agents.sb3.registry import SB3_ALGORITHMS
from agents.tuning.study import start_and_space
from agents.tuning.trials import Problem

DIMENSIONS = {
    **{"reinforce": 7, "sft_pg": 8, "sft_pg_paper": 8, "ddpo": 9, "dpok": 9, "grpo": 11, "rwr": 8, "dxdp": 10},
    **{"pathwise": 8, "ppo": 7, "a2c": 6, "trpo": 5, "sac": 6, "td3": 5},
}
"""Hyper-parameters that are tuned, at K = 10."""

MakeProblem = Callable[..., Problem]


@pytest.fixture
def problem(small_kwargs: dict[str, object]) -> MakeProblem:
    def make(algo: str, num_steps: int = 10, **fixed: Any) -> Problem:
        task = Task(str(small_kwargs["dataset"]), num_steps, denoiser=str(small_kwargs["denoiser"]), num_envs=16)
        return Problem(algo, (task,), 1, fixed=fixed)

    return make


def ends(parameter: Parameter) -> tuple[Any, Any]:
    if isinstance(parameter, Range):
        return parameter.low, parameter.high
    return parameter.values[0], parameter.values[-1]


def test_every_algorithm_has_a_space() -> None:
    assert {*PRESETS, *SB3_ALGORITHMS} == set(DIMENSIONS)


@pytest.mark.parametrize("algo", DIMENSIONS)
def test_the_preset_is_a_point_of_a_space_of_few_dimensions(algo: str, problem: MakeProblem) -> None:
    start, space = start_and_space(problem(algo))
    assert len(space) == len(start) == DIMENSIONS[algo]
    for name, parameter in space.items():
        assert parameter.is_free
        assert parameter.including(start[name]) == parameter, name


@pytest.mark.parametrize("algo", PRESETS)
def test_the_space_starts_where_the_preset_stands(algo: str, problem: MakeProblem) -> None:
    assert preset(algo, **start_and_space(problem(algo))[0]) == PRESETS[algo].config


@pytest.mark.parametrize("algo", PRESETS)
@pytest.mark.parametrize("end", [0, 1])
def test_the_corners_are_valid_configurations(algo: str, end: int, problem: MakeProblem) -> None:
    _, space = start_and_space(problem(algo))
    corner = {name: ends(parameter)[end] for name, parameter in space.items()}
    changed = preset(algo, **corner)
    assert {name: getattr(changed, name) for name in corner} == corner


@pytest.mark.parametrize("algo", ["sft_pg", "ppo"])
def test_what_is_fixed_is_not_tuned(algo: str, problem: MakeProblem) -> None:
    free, (start, space) = start_and_space(problem(algo))[1], start_and_space(problem(algo, learning_rate=1e-4))
    assert set(free) - set(space) == {"learning_rate"} == set(free) - set(start)
    with pytest.raises(ValueError, match=r"has no hyper-parameter \['n_critics'\]. Choose from .*learning_rate"):
        start_and_space(problem(algo, n_critics=1))
