"""How long training took, without what is not training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


class TrainingClock:
    """Wall and processor seconds since ``start``, without those spent ``paused``."""

    def __init__(self, now: Callable[[], tuple[float, float]] = _now) -> None:
        self._now = now
        self._started = self._stopped = (0.0, 0.0)
        self._running = False

    def start(self, seconds: float = 0.0, cpu_seconds: float = 0.0) -> None:
        """Begin at this reading: zero, or what an interrupted run has used before."""
        wall, cpu = self._now()
        self._started, self._running = (wall - seconds, cpu - cpu_seconds), True

    def stop(self) -> None:
        """Keep the present reading."""
        self._stopped, self._running = self._now(), False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count what happens inside."""
        entered = self._now()
        try:
            yield
        finally:
            if self._running:
                left = self._now()
                self._started = self._started[0] + left[0] - entered[0], self._started[1] + left[1] - entered[1]

    @property
    def seconds(self) -> float:
        """Wall seconds."""
        return self._read()[0]

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all threads of this process."""
        return self._read()[1]

    def _read(self) -> tuple[float, float]:
        wall, cpu = self._now() if self._running else self._stopped
        return wall - self._started[0], cpu - self._started[1]
