"""The speed benchmark measures what it says; how fast it is, is not tested."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agents.runs.callbacks import Measurement
from benchmarks.speed import native as speed


def test_walk_rate_times_every_way():
    rates = speed.walk_rate(4, speed.SpeedConfig(repeats=1, seconds=0.01))
    assert rates["num_envs"] == 4
    assert min(rates[key] for key in ("bare", "residual", "step", "residual_over_bare")) > 0


def test_training_speed_counts_trajectories():
    run = speed.training_speed(0, speed.SpeedConfig(total_timesteps=7_680, every_iterations=1))
    assert run["trajectories_per_cpu_second"] * run["cpu_seconds"] == pytest.approx(768)
    assert set(run["cpu_seconds_to"].values()) == {None}  # two iterations are too few


def test_one_part_is_measured_again_and_the_others_stay(tmp_path, checkout):
    output = tmp_path / "speed.json"
    first = speed.SpeedConfig(("walk",), num_envs=(2,), repeats=1, seconds=0.01, official=checkout, output=output)
    speed.main(first)
    walked = json.loads(output.read_text())
    assert set(walked) == {"walk", "manifests"} and set(walked["manifests"]) == {"walk"}
    speed.main(replace(first, parts=("official",), official_epochs=20))
    both = json.loads(output.read_text())
    assert both["walk"] == walked["walk"] and set(both["manifests"]) == {"walk", "official"}
    speed.main(replace(first, parts=("official",), official=None))  # nothing to measure: nothing is lost
    assert json.loads(output.read_text()) == both


def _training(rate: float, seconds: tuple[float | None, float | None]) -> dict[str, Any]:
    reached = dict(zip(map(str, speed.THRESHOLDS), seconds, strict=True))
    return {"trajectories_per_cpu_second": rate, "cpu_seconds_to": reached, "peak_resident_mib": 1.0}


def test_ratios_to_the_official_loop():
    curve = [
        {"epoch": epoch, "cpu_seconds": 10.0 * epoch, "sw2": sw2}
        for epoch, sw2 in ((0, 0.08), (10, 0.017), (20, 0.012))
    ]
    official = {"trajectories_per_cpu_second": 100.0, "curve": curve}
    text = speed.table({"training": [_training(300.0, (25.0, None))], "official": official})
    assert "one unseeded run of 20 epochs" in text
    assert "num_envs" not in text  # (a) was not measured
    assert "trajectories per CPU second: official 100.0, ours / official 3.000" in text
    assert "SW2 <= 0.0178: official 100.0, ours / official 0.250" in text
    assert "SW2 <= 0.0104: not reached by the official loop" in text
    curve[-1]["sw2"] = 0.01
    text = speed.table({"training": [_training(300.0, (25.0, None))], "official": official})
    assert "SW2 <= 0.0104: official 200.0" in text and "200.0, ours" not in text


def test_first_reached_takes_the_first_measurement_that_meets_the_threshold():
    history = [Measurement(i, sw2, 0.0, 9.0, float(i)) for i, sw2 in enumerate([0.03, 0.02, 0.01, 0.02, 0.005])]
    assert speed.first_reached(history, 0.0178) == 2.0
    assert speed.first_reached(history, 0.001) is None
