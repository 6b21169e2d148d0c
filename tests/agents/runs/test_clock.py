"""The clock of training, with made-up readings."""

from itertools import count

from agents.runs.clock import TrainingClock


def test_the_clock_leaves_out_pauses() -> None:
    ticks = count()

    def now() -> tuple[float, float]:
        tick = next(ticks)
        return float(tick), 10.0 * tick

    clock = TrainingClock(now)
    clock.start()  # at 0
    assert (clock.seconds, clock.cpu_seconds) == (1.0, 20.0)  # read at 1 and at 2
    with clock.paused():  # from 3 to 5
        next(ticks)
    assert clock.seconds == 6.0 - 2.0
    clock.stop()  # at 7
    with clock.paused():  # a pause after the end changes nothing
        next(ticks)
    assert (clock.seconds, clock.cpu_seconds) == (7.0 - 2.0, 70.0 - 20.0)
