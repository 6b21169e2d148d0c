"""The speed benchmark measures what it says; how fast it is, is not tested."""

import subprocess
import sys
import textwrap
from typing import Any

import pytest

from agents.callbacks import Measurement
from benchmarks import speed
from benchmarks.manifest import manifest
from benchmarks.official import parse, time_official
from diffusion_env.checkpoints import write_json

SCRIPT = """
import argparse, cv2, torch
for epoch in range(300):
    if epoch % 10 == 0:
        sum(i for i in range(200_000))
        print(epoch)
        print("val", torch.tensor(0.5))
        print("w_dis", torch.tensor(0.1 / (1 + epoch)))
"""


def test_walk_rate_times_the_three_ways():
    rates = speed.walk_rate(4, speed.SpeedConfig(repeats=1, seconds=0.01))
    assert rates["num_envs"] == 4
    assert min(rates[key] for key in ("bare", "residual", "step", "residual_over_bare")) > 0


def test_training_speed_and_its_table(tmp_path):
    config = speed.SpeedConfig(total_timesteps=12_800, every_iterations=1)
    run = speed.training_speed(0, config)
    assert run["trajectories_per_cpu_second"] * run["cpu_seconds"] == pytest.approx(1280)
    result: dict[str, Any] = {
        "walk": [speed.walk_rate(2, speed.SpeedConfig(repeats=1, seconds=0.01))],
        "training": [run],
    }
    result |= {"official": {"trajectories_per_cpu_second": 100.0}, "device": "cpu", **manifest()}
    text = speed.write_report(write_json(tmp_path / "speed.json", result))
    assert (tmp_path / "speed.md").read_text() == text
    assert "not reached by all (-)" in text  # two iterations are too few
    assert f"ours / official: {run['trajectories_per_cpu_second'] / 100:.2f}" in text


def test_first_reached_takes_the_first_measurement_that_meets_the_threshold():
    history = [Measurement(i, sw2, 0.0, 9.0, float(i)) for i, sw2 in enumerate([0.03, 0.02, 0.01, 0.02, 0.005])]
    assert speed.first_reached(history, 0.0178) == 2.0
    assert speed.first_reached(history, 0.001) is None


@pytest.fixture
def checkout(tmp_path):
    """Something that prints as the official script does; none of its code is here."""
    folder = tmp_path / "toy_exp"
    folder.mkdir()
    (folder / "train.py").write_text(textwrap.dedent(SCRIPT))
    (folder / "swiss.pt").touch()
    return tmp_path


def test_official_loop_is_timed_between_its_first_and_last_epoch(checkout):
    timed = time_official(checkout, last_epoch=20)
    assert [point["epoch"] for point in timed["curve"]] == [0, 10, 20]
    assert [point["sw2"] for point in timed["curve"]] == pytest.approx([0.1, 0.1 / 11, 0.1 / 21], rel=1e-3)
    first, last = timed["curve"][0], timed["curve"][-1]
    assert timed["trajectories_per_cpu_second"] == pytest.approx(
        128 * 79 * 20 / (last["cpu_seconds"] - first["cpu_seconds"])
    )


def test_official_errors_say_what_is_missing(checkout, tmp_path):
    (checkout / "toy_exp" / "swiss.pt").unlink()
    with pytest.raises(FileNotFoundError, match="--pretrain 1"):
        time_official(checkout)
    with pytest.raises(FileNotFoundError, match="root"):
        time_official(tmp_path / "nowhere")


def test_official_failure_shows_its_last_words(checkout):
    (checkout / "toy_exp" / "train.py").write_text("raise OSError('no data today')")
    with pytest.raises(RuntimeError, match="no data today"):
        time_official(checkout)


def test_parse_ignores_other_output():
    assert parse("0\nTIMED 10 1.5 0.02\nval 3\n") == [{"epoch": 10, "cpu_seconds": 1.5, "sw2": 0.02}]


@pytest.mark.parametrize("module", ["toy", "speed"])
def test_help(module):
    done = subprocess.run([sys.executable, "-m", f"benchmarks.{module}", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--results" in done.stdout or "--official" in done.stdout
