"""What a checkpoint keeps of the log: how many lines were written, and what was recorded for the next one."""

from pathlib import Path
from typing import Any

import pytest
from stable_baselines3.common.logger import DISABLED, Logger, make_output_format

from agents.core.logs import CountedLogger, checked_log, log_state, restore_pending


def counted(folder: Path) -> CountedLogger:
    return CountedLogger(str(folder), [make_output_format("json", str(folder))])


def test_lines_are_counted_unless_the_log_is_off(tmp_path: Path) -> None:
    logger = counted(tmp_path)
    for step in range(3):
        logger.record("a", 1.0)
        logger.dump(step)
    assert log_state(logger)["lines"] == 3
    logger.set_level(DISABLED)
    logger.dump(3)
    assert log_state(logger)["lines"] == 3
    assert log_state(None) == {"lines": 0, "pending": {}} == log_state(Logger(None, []))


def test_what_is_pending_is_recorded_again_with_its_count(tmp_path: Path) -> None:
    first, second = counted(tmp_path / "a"), counted(tmp_path / "b")
    for value in (1.0, 2.0):
        first.record_mean("mean", value)
    first.record("text", "no number")
    state = log_state(first)
    assert state["pending"].keys() == {"mean"}
    restore_pending(second, state)
    for logger in (first, second):
        logger.record_mean("mean", 6.0)
        assert logger.name_to_value["mean"] == 3.0


@pytest.mark.parametrize(
    "state",
    [
        [],
        {"lines": 1},
        {"lines": -1, "pending": {}},
        {"lines": 1.0, "pending": {}},
        {"lines": 1, "pending": {"a": [1.0, 1]}},
        {"lines": 1, "pending": {"a": ["text", 1, []]}},
        {"lines": 1, "pending": {"a": [1.0, True, []]}},
        {"lines": 1, "pending": {"a": [1.0, 1, [3]]}},
    ],
)
def test_a_log_that_is_none_is_refused(state: Any) -> None:
    kept = {"lines": 1, "pending": {"a": [float("nan"), 1, ["json"]]}}
    assert checked_log(kept) == kept and checked_log(None) is None
    with pytest.raises((TypeError, ValueError)):
        checked_log(state)
