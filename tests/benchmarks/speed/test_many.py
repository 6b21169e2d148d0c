"""The timing of many seeds measures both ways; how fast they are, is not tested."""

import pytest

from benchmarks.speed import many


def test_both_ways_are_timed(capsys: pytest.CaptureFixture[str]) -> None:
    config = many.ManyConfig(algo="pathwise", seeds=1, num_envs=(4,), num_steps=2, iterations=1, rounds=1)
    many.main(config)
    header, _, row = capsys.readouterr().out.splitlines()
    assert "1 seeds one after the other" in header
    assert row.startswith("| 4 |") and row.count(" ms ") == 2


def test_the_table_shows_how_much_faster() -> None:
    text = many.table([{"num_envs": 16, "one_after_the_other": 1.5, "at_once": 0.5}], seeds=8)
    assert text.splitlines()[-1] == "| 16 | 1,500 ms | 500 ms | 3.00 |"
