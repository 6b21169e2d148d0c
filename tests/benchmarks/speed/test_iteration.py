"""What one iteration is measured against; how fast it is, is not tested."""

import time

import pytest
import torch

from agents.algorithms.presets import preset
from benchmarks.speed import iteration
from benchmarks.speed.native import table


def test_every_product_is_counted_and_replayed_with_its_layout():
    layer, x = torch.nn.Linear(3, 5), torch.randn(7, 3)
    with iteration.Products() as products:
        layer(x).sum().backward()  # (7, 3) @ (3, 5) forwards, (5, 7) @ (7, 3) backwards
        x + 1
    assert products.flops == 2 * (2 * 7 * 3 * 5) and len(products.calls) == 2
    with iteration.Products() as again:
        products.replay()
    assert again.flops == products.flops and len(again.calls) == len(products.calls)


def test_a_part_inside_another_counts_for_itself_alone():
    clock = iteration.Clock()
    started = time.process_time()
    with clock.inside("value"), clock.inside("critic"):
        while time.process_time() < started + 0.02:
            pass
    assert clock.seconds["critic"] > 0.019 > 10 * clock.seconds["value"]


def test_iterations_of_an_agent_are_timed():
    (found,) = iteration.time_iterations(("sft_pg",), num_envs=8, repeats=2)
    rollouts, _ = preset("sft_pg").at_steps(10)
    assert sum(found["shares"].values()) == pytest.approx(1.0) and min(found["shares"].values()) > 0
    assert found["trajectories_per_cpu_second"] * found["iteration_cpu_seconds"] == pytest.approx(8 * rollouts)
    assert found["over_limit"] > 1  # an iteration holds its products
    text = table(
        {"iteration": [found], "official": {"trajectories_per_cpu_second": 10.0, "curve": [{"epoch": 1, "sw2": 0.1}]}}
    )
    assert "| sft_pg |" in text and "over official" in text
    assert "over official" not in table({"iteration": [found]})
