"""What the comparison measures: which sets, which points, and what an algorithm without a critic leaves out."""

from dataclasses import replace

import pytest
import torch

from agents.core.task import Task
from agents.zoo import find
from benchmarks.comparison.protocol import FLOOR_SETS, UNUSED, Protocol
from diffusion_env.data.named import load_dataset

TASK = Task("swiss_roll", num_steps=2)


def test_entries_share_their_evaluation_sets_and_seeds_do_not():
    ours = [s for seed in range(5) for config in Protocol().final(seed) for s in config.seeds]
    assert len(set(ours)) == len(ours) == 5 * Protocol().evaluations


def test_what_costs_much_is_measured_on_the_first_set():
    first, others = Protocol(evaluations=3).final(0)
    assert first.refit_critic == "energy" and len(first.seeds) == 1 and first.w1_samples == 2_500
    assert others.refit_critic is None and len(others.seeds) == 2 and others.w1_samples == UNUSED
    assert len(Protocol(evaluations=1).final(0)) == 1


def test_the_untouched_sampler_is_above_the_floor(small):
    floor = small.of_floor(load_dataset("swiss_roll"), TASK, 0)
    untouched = small.of_untouched(find("untouched").make(TASK, 0), 0)
    assert floor.keys() == untouched.keys() == {"metrics", "curve_sw2"}
    assert max(floor["metrics"]["sw2"]) < min(untouched["metrics"]["sw2"])
    assert all(
        min(floor["metrics"][name]) < min(untouched["metrics"][name]) for name in ("auc_boosting", "auc_neighbours")
    )
    assert floor["curve_sw2"] < untouched["curve_sw2"]
    assert len(small.at_curve(FLOOR_SETS).seeds) == FLOOR_SETS


def test_what_is_trained_also_says_what_its_own_critic_sees(small):
    agent = find("sft_pg").make(TASK, 0)
    measured = small.of_trained(agent, 0)
    assert isinstance(measured["training_ipm"], float) and len(measured["metrics"]["sw2"]) == small.evaluations
    assert small.training_ipm(find("untouched").make(TASK, 0), 0) is None


def test_a_sample_that_is_not_finite_is_a_divergence(small, monkeypatch):
    untouched = find("untouched").make(TASK, 0)
    monkeypatch.setattr(untouched, "sample", lambda n, seed: torch.full((n, 2), torch.nan))
    with pytest.raises(FloatingPointError, match="NaN or infinite"):
        small.of_trained(untouched, 0)


def test_the_curve_has_the_points_that_were_asked_for():
    agent = find("sft_pg").make(replace(TASK, num_envs=16), 0, {"n_critic": 1})
    protocol = Protocol(curve_points=4, curve_samples=50)
    watch = protocol.watch(agent, 16 * 2 * 8)
    agent.learn(16 * 2 * 8, watch)
    assert [point["num_timesteps"] for point in protocol.curve(watch.history)] == [64 * i for i in range(5)]
    assert protocol.curve(watch.history)[0].keys() == {"num_timesteps", "sw2"}
