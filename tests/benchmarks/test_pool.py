"""Processes of their own: a call that raises and one whose process dies lose no other."""

import os

from benchmarks.pool import Job, describe, run_all


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
