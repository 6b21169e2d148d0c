"""Processes of their own: a call that raises and one whose process dies lose no other."""

import os
import signal
import threading
import time

import pytest

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


def test_a_termination_ends_what_runs_and_starts_no_other(tmp_path):
    jobs = [Job(os.mkdir, (tmp_path / str(i),)) for i in range(200)]
    before = signal.getsignal(signal.SIGTERM)

    def terminate_after_the_first() -> None:
        while not any(tmp_path.iterdir()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate_after_the_first, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_all(jobs, 2)
    done = len(list(tmp_path.iterdir()))
    assert 1 <= done < len(jobs)
    assert signal.getsignal(signal.SIGTERM) is before
