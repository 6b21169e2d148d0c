"""Ctrl-C, SIGTERM and SIGHUP end a run in order: the iteration under way is finished and saved.

A second signal, or one to work that has no iterations, ends it at once; the newest checkpoint is then what is left.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a user, a cluster and a closed terminal send."""


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; the message says what is saved and how to go on."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"{signal.Signals(number).name}: {message}")
        self.exit_code = 128 + number


class StopRequest:
    """Whether a signal asked a run to stop."""

    def __init__(self, how_to_go_on: str) -> None:
        """``how_to_go_on``: a sentence for the user."""
        self.how_to_go_on = how_to_go_on
        self.number: int | None = None
        """Of the signal that came."""
        self.is_awaited = False
        """Whether the run looks at `number` between two iterations: until then a signal ends it at once."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal ``number``."""
        if self.number is not None or not self.is_awaited:
            raise Interrupted(number, f"ended at once. {self.how_to_go_on}")
        self.number = number
        # Not print: the signal may have come inside one.
        os.write(2, b"\nEnding after this iteration, which is saved; a second signal ends at once.\n")

    def obey(self, saved: str) -> None:
        """Raise Interrupted, with what is ``saved``, where a signal has come."""
        if self.number is not None:
            raise Interrupted(self.number, f"{saved} {self.how_to_go_on}")


@contextmanager
def handled(request: StopRequest) -> Iterator[StopRequest]:
    """Hand the signals of `ENDING` to ``request``; one that is ignored (as under nohup) stays ignored.

    Python gives signals to the main thread: in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    handled_here = [number for number in ENDING if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request) for number in handled_here}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
