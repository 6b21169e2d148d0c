"""The official loop is timed from outside; made-up scripts stand for it."""

import pytest

from benchmarks.speed.official import parse, time_official


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
        time_official(checkout, 10)
    with pytest.raises(FileNotFoundError, match="root"):
        time_official(tmp_path / "nowhere", 10)


def test_official_failure_shows_its_last_words(checkout):
    (checkout / "toy_exp" / "train.py").write_text("raise OSError('no data today')")
    with pytest.raises(RuntimeError, match="no data today"):
        time_official(checkout, 10)


def test_parse_ignores_other_output():
    assert parse("0\nTIMED 10 1.5 0.02\nval 3\n") == [{"epoch": 10, "cpu_seconds": 1.5, "sw2": 0.02}]
