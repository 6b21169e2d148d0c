"""The speed benchmark under stable-baselines3 measures what it says; how fast it is, is not tested."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison.manifest import manifest
from benchmarks.speed import sb3 as sb3_speed
from diffusion_env.checkpoints import write_json

SMALL = sb3_speed.SB3SpeedConfig(num_envs=8, dummy_envs=2, n_epochs=1, repeats=2, rollouts=1)


def test_every_contestant_is_timed(tmp_path: Path) -> None:
    rates = sb3_speed.measure(SMALL)
    assert list(rates) == [contestant.name for contestant in sb3_speed.CONTESTANTS]
    assert all(len(found) == SMALL.repeats and min(found) > 0 for found in rates.values())
    result: dict[str, Any] = {**manifest(), "dummy_envs": 2, "rates": rates, "ratios": sb3_speed.ratios(rates)}
    text = sb3_speed.write_report(write_json(tmp_path / "sb3_speed.json", result))
    assert (tmp_path / "sb3_speed.md").read_text() == text
    assert all(name in text for name in rates)


def test_a_timed_run_is_as_many_steps_as_its_rollouts() -> None:
    asked: dict[str, list[int]] = {"native": [], "dummy": []}
    contestants = [
        sb3_speed.Contestant("native", lambda config: asked["native"].append),
        sb3_speed.Contestant("dummy", lambda config: asked["dummy"].append, dummy=True),
    ]
    config = sb3_speed.SB3SpeedConfig(num_envs=8, repeats=2, rollouts=3, dummy_rollouts=2)
    sb3_speed.measure(config, contestants)
    assert asked == {"native": [80, 240, 240], "dummy": [80, 160, 160]}  # a warm-up first


def test_ratios_are_of_the_same_repeat() -> None:
    rates = {
        "PPO, adapter, residual": [10.0, 40.0],
        "PPO, DummyVecEnv, residual": [1.0, 2.0],
        "PPO, adapter, step": [6.0],
        "PPO, DummyVecEnv, step": [3.0],
        "DDPO, ours": [8.0],
    }
    assert sb3_speed.ratios(rates) == {"residual": pytest.approx(15.0), "step": 2.0, "DDPO, ours": 0.75}
