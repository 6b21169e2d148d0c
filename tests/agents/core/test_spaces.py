"""The values that tuning may choose from."""

from agents.core.spaces import Choice, Range, Space, around


def test_a_start_outside_widens_the_space() -> None:
    assert Range(1, 8).including(10) == Range(1, 10)
    assert Range(0.1, 1.0).including(0.01) == Range(0.01, 1.0)
    assert Choice((0.9, 0.99)).including(0.0) == Choice((0.0, 0.9, 0.99))
    assert Range(1, 8).is_integer and not Range(0.1, 1).is_integer


def test_what_cannot_change_is_left_out() -> None:
    families: list[Space] = [{"a": Range(1, 8), "b": Choice((2,))}, {"c": Choice((None,))}]
    assert around(families, {"a": 9, "b": 2, "c": 5}) == {"a": Range(1, 9), "c": Choice((5, None))}
