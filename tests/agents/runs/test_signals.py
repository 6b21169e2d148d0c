"""Signals end a run in order."""

import os
import signal
import threading

import pytest

from agents.runs.signals import ENDING, Interrupted, StopRequest, handled


@pytest.mark.parametrize("number", ENDING)
def test_a_run_without_iterations_ends_at_once(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    message = rf"{number.name}: ended at once\. Type this"
    with pytest.raises(Interrupted, match=message) as caught, handled(StopRequest("Type this.")):
        os.kill(os.getpid(), number)
    assert caught.value.exit_code == 128 + number
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(number) is before


def test_the_first_signal_asks_and_the_second_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Interrupted, match="SIGHUP: ended at once"), handled(StopRequest("Type this.")) as request:
        request.is_awaited = True
        request.obey("nothing came.")
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.number == signal.SIGTERM
        with pytest.raises(Interrupted, match=r"SIGTERM: saved\. Type this\."):
            request.obey("saved.")
        os.kill(os.getpid(), signal.SIGHUP)
    assert "Ending after this iteration" in capfd.readouterr().err


def test_what_is_ignored_stays_ignored() -> None:
    """``nohup`` starts a run that ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with handled(StopRequest("")) as request:
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_leaves_signals_alone() -> None:
    seen = []

    def work() -> None:
        with handled(StopRequest("")):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
