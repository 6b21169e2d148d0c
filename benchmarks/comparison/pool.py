"""Runs as processes: some at a time, each in a process of its own, and none takes another down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any, NamedTuple

from agents.runs.processes import Children, follow_parent
from agents.runs.signals import StopRequest, handled

PRELOADED = [
    *(
        "benchmarks.comparison.runner",
        "benchmarks.comparison.report",
        "benchmarks.comparison.toy_grid",
        "agents.algorithms.policy_gradient",
    ),
    *("ot", "sb3_contrib", "scipy.spatial", "scipy.special", "sklearn.datasets", "torch._dynamo", "tyro"),
]
"""Imported once, with all they import, where the platform can fork from a server: a run then starts in milliseconds,
not in seconds, and code that is edited while a grid runs does not reach it half."""


class Job(NamedTuple):
    """A call to make in a process of its own; function and arguments must be picklable."""

    function: Callable[..., object]
    arguments: tuple[Any, ...]


def _ignore(job: Job, error: BaseException) -> None:
    return None


def run_all(jobs: Sequence[Job], processes: int, on_failure: Callable[[Job, BaseException], None] = _ignore) -> int:
    """Make all calls, ``processes`` at a time and in order, and print what each returns as it comes.

    One that raises, or whose process dies, is printed, handed to ``on_failure`` and does not lose the others.
    Returns how many failed. Ctrl-C, SIGTERM and SIGHUP raise `agents.runs.signals.Interrupted`: the calls under way
    are lost, no other starts, and no process stays, however this one ends.
    """
    context, children = _context(), Children()
    threads = ThreadPoolExecutor(processes)
    with handled(StopRequest("What is complete is kept")):
        submitted = {threads.submit(_alone, context, job): job for job in jobs}
        try:
            return _report_as_done(submitted, on_failure)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            while not all(future.done() for future in submitted):  # a thread may be about to start a process
                children.kill()
                time.sleep(0.05)


def _context() -> BaseContext:
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _alone(context: BaseContext, job: Job) -> object:
    """The result of ``job`` from a pool of its own: a process that is killed breaks no other's pool."""
    with ProcessPoolExecutor(1, mp_context=context, initializer=follow_parent) as pool:
        return pool.submit(job.function, *job.arguments).result()


def _report_as_done(submitted: dict[Future[object], Job], on_failure: Callable[[Job, BaseException], None]) -> int:
    failed = 0
    for future in as_completed(submitted):
        error = future.exception()
        if error is None:
            print(future.result(), flush=True)
            continue
        failed += 1
        print(f"FAILED {describe(error)}", flush=True)
        on_failure(submitted[future], error)
    return failed


def describe(error: BaseException) -> str:
    """The last line of its traceback."""
    return f"{type(error).__name__}: {error}"
