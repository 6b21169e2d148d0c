"""A trial of tuning: what it trains and measures, on seeds of its own, and what counts as diverged."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agents.core.ipm_agent import IPMAgent
from agents.core.task import Task
from agents.runs.callbacks import CURVE_SEED
from agents.tuning.trials import DIVERGED, EVALUATION_SEED, Problem, final_sw2, trial_value, untouched_sw2
from diffusion_env.data.dataset import Dataset

MakeProblem = Callable[..., Problem]


@pytest.mark.parametrize("algo", ["sft_pg", "pathwise"])
def test_a_sampler_that_does_not_learn_is_the_untouched_one(algo: str, problem: MakeProblem) -> None:
    posed = problem(algo, seeds=(1_000, 1_001), num_samples=200)
    same = final_sw2(posed, {"learning_rate": 0.0})
    assert trial_value(same, untouched_sw2(posed)) == 1.0
    assert same[0] != same[1]  # points of their own
    assert final_sw2(posed, {"learning_rate": 1e-3}) != same  # negative control


def test_every_number_of_steps_is_trained_with_every_seed(problem: MakeProblem, small_task: Task) -> None:
    tasks = tuple(replace(small_task, num_steps=k) for k in (1, 2))
    both = problem(tasks=tasks, seeds=(1_000, 1_001))
    one, two = (problem(tasks=(task,), seeds=(1_000, 1_001)) for task in tasks)
    assert final_sw2(both, {}) == final_sw2(one, {}) + final_sw2(two, {})
    assert untouched_sw2(both) == untouched_sw2(one) + untouched_sw2(two)


def test_every_data_set_is_trained_on_with_the_network_shipped_for_it(problem: MakeProblem) -> None:
    tasks = tuple(Task(name, 2, num_envs=8) for name in ("moons", "pinwheel"))
    both, one, two = (problem(tasks=some) for some in (tasks, tasks[:1], tasks[1:]))
    assert final_sw2(both, {}) == final_sw2(one, {}) + final_sw2(two, {})
    assert untouched_sw2(both) == untouched_sw2(one) + untouched_sw2(two)


@pytest.mark.parametrize("algo", ["sft_pg", "ppo"])
def test_what_is_fixed_counts_as_changed(algo: str, problem: MakeProblem) -> None:
    fixed = problem(algo, fixed={"learning_rate": 1e-2})
    assert final_sw2(fixed, {}) == final_sw2(problem(algo), {"learning_rate": 1e-2}) != final_sw2(problem(algo), {})


@pytest.mark.parametrize("tasks", [(), (Task("moons", 2), Task("moons", 2, critic="mmd"))])
def test_tasks_are_different_in_data_or_steps(tasks: tuple[Task, ...], problem: MakeProblem) -> None:
    with pytest.raises(ValueError, match=r"must be different in their data sets or in K; received \["):
        problem(tasks=tasks)


def test_a_study_of_objects_cannot_be_written(problem: MakeProblem, gaussian: Dataset) -> None:
    with pytest.raises(ValueError, match=r"dataset can only be written .*received \['Dataset'\]"):
        problem(tasks=(Task(gaussian, 2),)).to_json()


def test_a_trial_repeats_itself_and_follows_its_seed(problem: MakeProblem) -> None:
    assert final_sw2(problem(), {}) == final_sw2(problem(), {})
    assert final_sw2(problem(), {}) != final_sw2(problem(seeds=(1_005,)), {})


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_stable_baselines3_is_measured_alike(algo: str, problem: MakeProblem) -> None:
    posed = problem(algo, 1, num_samples=2_000)
    value = trial_value(final_sw2(posed, {"learning_rate": 1e-9}), untouched_sw2(posed))
    assert value == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("algo", ["sft_pg", "ppo"])
def test_divergence_is_a_bad_value(algo: str, problem: MakeProblem) -> None:
    assert final_sw2(problem(algo), {"learning_rate": 1e30}) == [None]


def test_another_error_is_none(problem: MakeProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(IPMAgent, "learn", broken)
    with pytest.raises(RuntimeError, match="broken"):
        final_sw2(problem(), {})


def test_the_value_is_the_mean_over_seeds_in_multiples_of_the_untouched_sampler() -> None:
    assert trial_value([1.0, 3.0], [2.0, 4.0]) == pytest.approx(0.625)
    assert trial_value([None, 2.0], [2.0, 4.0]) == pytest.approx((DIVERGED + 0.5) / 2)
    assert trial_value([1e9], [2.0]) == trial_value([None], [2.0]) == DIVERGED


@pytest.mark.parametrize("seeds", [(), (0,), (1_000, 4), (1_000, 1_000), (CURVE_SEED,), (20_000,), (EVALUATION_SEED,)])
def test_seeds_of_reported_results_are_refused(seeds: tuple[int, ...], problem: MakeProblem) -> None:
    with pytest.raises(ValueError, match=r"1000 \.\.\. 9999; received .*reported runs"):
        problem(seeds=seeds)


def test_unknown_algorithms_are_refused(problem: MakeProblem) -> None:
    with pytest.raises(ValueError, match=r"'alphago'.*pathwise.*td3"):
        final_sw2(problem("alphago"), {})
