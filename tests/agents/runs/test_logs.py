"""The log of a run folder is cut at the checkpoint, whole lines and whole events, and damage is set aside."""

import json
import warnings
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from agents.core.logs import CountedLogger, log_state, restore_pending
from agents.runs.folder import RunFolder
from agents.runs.logs import DAMAGED, METRICS, TIMESTEPS


def written(path: Path, steps: list[int]) -> RunFolder:
    """A run with a line at each of ``steps``."""
    run = RunFolder.create(path, {})
    write(run, steps)
    return run


def write(run: RunFolder, steps: list[int], at: int = 0, lines: int | None = None) -> None:
    logger = run.logger(at, None if lines is None else {"lines": lines, "pending": {}})
    for step in steps:
        logger.record(TIMESTEPS, step)
        logger.record("a", float(step))
        logger.dump(step)
    logger.close()


def events(run: RunFolder) -> list[int]:
    """Steps of the scalar "a" in all files, whatever a purge says."""
    found = []
    for path in sorted(run.path.glob("events.*")):
        found += [e.step for e in EventFileLoader(str(path)).Load() if any(v.tag == "a" for v in e.summary.value)]
    return found


def steps(run: RunFolder) -> list[int]:
    return [line[TIMESTEPS] for line in run.metrics()]


@pytest.mark.parametrize("lines", [None, 3])
def test_every_line_is_there_once(tmp_path: Path, lines: int | None) -> None:
    run = written(tmp_path, [0, 10, 20, 30, 40])
    write(run, [30, 40], at=20, lines=lines)
    assert steps(run) == sorted(events(run)) == [0, 10, 20, 30, 40]
    accumulator = EventAccumulator(str(run.path)).Reload()
    assert [e.step for e in accumulator.Scalars("a")] == [0, 10, 20, 30, 40]
    write(run, [0], at=0, lines=lines)
    assert steps(run) == events(run) == [0]


def test_lines_count_where_they_name_no_step(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {})
    logger = run.logger()
    for value in range(4):
        logger.record("mine", value)
        logger.dump(0)
    logger.close()
    assert logger.lines == 4
    assert run.logger(10, {"lines": 2, "pending": {}}).lines == 2
    assert [line["mine"] for line in run.metrics()] == [0, 1]


DAMAGE = [b'{"a": 1\n', b"\xff\xfe\n", b"[1, 2]\n", b"\n", b"[" * 100_000 + b"\n"]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_lines_are_set_aside(tmp_path: Path, damage: bytes) -> None:
    run = written(tmp_path, [0, 10, 20, 30])
    lines = (run.path / METRICS).read_bytes().splitlines(keepends=True)
    lines[1] = damage
    (run.path / METRICS).write_bytes(b"".join(lines))
    assert steps(run) == [0, 20, 30]
    with pytest.warns(UserWarning, match=r"1 line\(s\) of .*progress\.json are damaged.*progress\.damaged\.json"):
        logger = run.logger(20, {"lines": 3, "pending": {}})
    assert steps(run) == [0, 20] and logger.lines == 2
    assert (run.path / DAMAGED).read_bytes() == damage
    with warnings.catch_warnings(action="error"):
        write(run, [30], at=20, lines=3)  # killed before its first checkpoint could count the lines again
    assert steps(run) == [0, 20, 30]


def test_a_line_that_a_kill_cut_short_is_no_damage(tmp_path: Path) -> None:
    run = written(tmp_path, [0, 10])
    with (run.path / METRICS).open("a") as file:
        file.write('{"a": ')
    with warnings.catch_warnings(action="error"):
        run.logger(10, {"lines": 2, "pending": {}}).close()
    assert steps(run) == [0, 10]


def test_an_event_that_a_kill_cut_short_goes(tmp_path: Path) -> None:
    run = written(tmp_path, [0, 10, 20])
    (path,) = run.path.glob("events.*")
    path.write_bytes(path.read_bytes()[:-3])
    write(run, [20], at=10)
    assert sorted(events(run)) == [0, 10, 20]


def test_what_was_recorded_for_the_next_line_is_kept() -> None:
    logger, again = CountedLogger(None, []), CountedLogger(None, [])
    logger.dump(1)
    logger.record("train/loss", 0.5, exclude="stdout")
    logger.record_mean("train/mean", 1.0)
    logger.record_mean("train/mean", 2.0)
    state = json.loads(json.dumps(log_state(logger)))
    assert state["lines"] == 1
    restore_pending(again, state)
    for one in (logger, again):
        one.record_mean("train/mean", 6.0)
    assert dict(logger.name_to_value) == dict(again.name_to_value) == {"train/loss": 0.5, "train/mean": 3.0}
    assert again.name_to_excluded["train/loss"] == ("stdout",)
