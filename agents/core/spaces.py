"""What tuning may change of an algorithm: a table of hyper-parameters, each with the values it may take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both of them in it; even in the logarithm. Integers if both are."""

    low: float
    high: float

    def including(self, value: Any) -> Range:
        """Widened to hold ``value``."""
        return Range(min(self.low, value), max(self.high, value))

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose."""
        return self.low < self.high

    @property
    def is_integer(self) -> bool:
        """Whether it holds integers alone."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choice:
    """One of ``values``."""

    values: tuple[Any, ...]

    def including(self, value: Any) -> Choice:
        """With ``value`` among them."""
        return self if value in self.values else Choice((value, *self.values))

    @property
    def is_free(self) -> bool:
        """Whether there is anything to choose."""
        return len(self.values) > 1


Parameter = Range | Choice
Space = dict[str, Parameter]


def around(families: Iterable[Space], start: Mapping[str, Any]) -> Space:
    """One space of all ``families``, each parameter widened to hold its ``start``; those that are not free left out."""
    merged = {name: parameter.including(start[name]) for space in families for name, parameter in space.items()}
    return {name: parameter for name, parameter in merged.items() if parameter.is_free}
