"""Processes that help this one end with it, however it ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

from agents.runs.signals import ENDING


def follow_parent() -> None:
    """In a child, as the ``initializer`` of a pool: end when the parent has ended, and leave signals to the parent."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    for number in ENDING:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Children:
    """The processes that this one starts from now on."""

    def __init__(self) -> None:
        self._before = set(multiprocessing.active_children())

    def kill(self) -> None:
        """End those that are there."""
        for child in set(multiprocessing.active_children()) - self._before:
            child.kill()
