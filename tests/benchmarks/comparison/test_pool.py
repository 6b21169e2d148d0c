"""Processes of their own: a call that raises and one whose process dies lose no other."""

import os
import signal
import threading
import time

import pytest

from agents.runs.signals import Interrupted
from benchmarks.comparison.pool import Job, describe, run_all


def test_a_call_that_raises_and_a_process_that_dies_lose_no_other(capsys):
    failures = []
    jobs = [Job(chr, (-1,)), Job(os.abort, ()), Job(str.upper, ("first",)), Job(str.upper, ("second",))]
    assert run_all(jobs, 2, lambda job, error: failures.append((job, describe(error)))) == 2
    out = capsys.readouterr().out.splitlines()
    assert {"FIRST", "SECOND", "FAILED ValueError: chr() arg not in range(0x110000)"} <= set(out)
    assert {job for job, _ in failures} == set(jobs[:2])
    assert any(words.startswith("BrokenProcessPool") for _, words in failures)


def test_no_jobs_are_no_failures():
    assert run_all([], 2) == 0


def hold(path: str) -> None:
    """Say which process this is, and stay."""
    with open(path, "w", encoding="utf-8") as file:
        file.write(str(os.getpid()))
    time.sleep(60)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_runs_and_starts_no_other(tmp_path, number):
    jobs = [Job(hold, (str(tmp_path / str(i)),)) for i in range(20)]
    before = signal.getsignal(number)

    def send_once_several_run() -> None:
        while sum(path.stat().st_size > 0 for path in tmp_path.iterdir()) < 2:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send_once_several_run, daemon=True).start()
    with pytest.raises(Interrupted, match=f"{number.name}: ended at once. What is complete is kept") as caught:
        run_all(jobs, 2)
    assert caught.value.exit_code == 128 + number
    started = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(started) == 2
    deadline = time.monotonic() + 5
    while any(map(is_alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_alive, started))
    assert signal.getsignal(number) is before
