"""One checker of configurations: every field of a dataclass against its own annotation.

A configuration calls `check_fields` in ``__post_init__``; nothing about a field is said twice. Numbers of numpy are
numbers and become Python's; bool is no number, and neither is a string or an array of one element. `from_json` makes a
dataclass from what a file holds, by the same rules.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

Config = TypeVar("Config")


@dataclass(frozen=True)
class Bounds:
    """What a number must lie within, in ``Annotated[int, Bounds(1)]``; ``open_`` ends do not belong to it."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, number: float) -> bool:
        above = self.low < number if self.open_low else self.low <= number
        below = number < self.high if self.open_high else number <= self.high
        return above and below

    def __str__(self) -> str:
        low, high = (f"{end:.0f}" if float(end).is_integer() else f"{end:g}" for end in (self.low, self.high))
        if math.isinf(self.high):
            return "" if math.isinf(self.low) else f" {'>' if self.open_low else '>='} {low}"
        if math.isinf(self.low):
            return f" {'<' if self.open_high else '<='} {high}"
        return f" in {'(' if self.open_low else '['}{low}, {high}{')' if self.open_high else ']'}"


class FieldTypeError(TypeError):
    """A value of another type than its annotation says: a fault of who gave it, not of the program."""


@dataclass(frozen=True)
class OrObject:
    """In ``Annotated[str, OrObject("a Dataset")]``: besides a string, a path or an object of some class of its own.

    Plain values of other types (numbers, None, bytes, containers, arrays) are still refused.
    """

    what: str
    """The object in words."""


Count = Annotated[int, Bounds(1)]
"""How many of something there are."""
Counter = Annotated[int, Bounds(0, 2**63 - 1)]
"""How often something was done so far."""
Pair = Annotated[int, Bounds(2)]
"""How many, where one is too few to compare."""
Width = Annotated[int, Bounds(1, 2**13)]
"""Units of a hidden layer; two such layers of the most units hold 64 million weights."""
Depth = Annotated[int, Bounds(1, 2**7)]
"""Hidden layers."""
Weight = Annotated[float, Bounds(0)]
"""A coefficient, a step size or a standard deviation."""
Positive = Annotated[float, Bounds(0, open_low=True)]
"""What is divided by."""
Decay = Annotated[float, Bounds(0, 1, open_high=True)]
"""The share of an average that is kept at each step."""
Share = Annotated[float, Bounds(0, 1)]
"""A part of a whole."""
Seed = Annotated[int, Bounds(0, 2**63 - 1)]
"""What fixes random draws."""


def check_fields(config: Any) -> None:
    """Check every field of a dataclass against its annotation, and turn numpy's numbers into Python's.

    Annotations may be built of int, float (finite), bool, str, Path, Literal, None, unions, ``tuple[T, ...]``, Mapping,
    dataclasses, Any, and ``Annotated`` with `Bounds`.

    Raises:
        TypeError: a value of another type; it names the field, what is allowed and what was received.
        ValueError: a value of the right type out of its bounds, or not among the choices.
    """
    for name, annotation in _annotations(type(config)).items():
        value = getattr(config, name)
        found = checked(value, annotation, f"{type(config).__name__}.{name}")
        if found is not value:
            object.__setattr__(config, name, found)  # dataclasses here are frozen


def from_json(kind: type[Config], content: Any, what: str) -> Config:
    """The dataclass ``kind`` with the fields in ``content``, JSON; lists become tuples where the annotation says so.

    ``what`` says in errors what the content is. Raises TypeError or ValueError where it is no dict, has a field that is
    not ``kind``'s, lacks one without a default, or holds a value that `check_fields` refuses.
    """
    if not isinstance(content, Mapping):
        raise FieldTypeError(f"{what} must be a dict of the fields of {kind.__name__}; received {_short(content)}.")
    annotations = _annotations(kind)
    needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}  # type: ignore[arg-type]
    unknown, missing = sorted(map(str, set(content) - set(annotations))), sorted(needed - set(content))
    if unknown or missing:
        raise ValueError(
            f"{what} does not hold the fields of {kind.__name__}: {unknown} are not among them and {missing} are "
            f"missing. It has {sorted(annotations)}."
        )
    return kind(**{name: checked(value, annotations[name], f"{what}, {name}") for name, value in content.items()})


def _annotations(kind: Any) -> dict[str, Any]:
    if kind not in _known:  # reading annotations takes longer than checking them
        hints = get_type_hints(kind, include_extras=True)
        _known[kind] = {f.name: hints[f.name] for f in fields(kind) if f.init}
    return _known[kind]


_known: dict[Any, dict[str, Any]] = {}


def checked(value: Any, annotation: Any, name: str) -> Any:
    """``value`` as the annotation wants it; TypeError or ValueError, as `check_fields`, that calls it ``name``."""
    mismatch, reasons = object(), list[str]()
    found = _converted(value, annotation, mismatch, reasons)
    if found is not mismatch:
        return found
    kind = ValueError if reasons else FieldTypeError
    raise kind(f"{name} must be {describe(annotation)}; received {_short(value)}.")


def checked_counts(counts: Any) -> tuple[int, ...]:
    """The numbers of a list, each how often something was done; TypeError or ValueError for anything else."""
    found: tuple[int, ...] = checked(counts, tuple[Counter, ...], "a list of counts")
    return found


def _converted(value: Any, annotation: Any, mismatch: object, reasons: list[str]) -> Any:
    """The value under one annotation; ``mismatch`` where it is none, with a reason where only its size is wrong."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        found = _converted(value, arguments[0], mismatch, reasons)
        bounds = [extra for extra in arguments[1:] if isinstance(extra, Bounds)]
        if found is mismatch and any(isinstance(extra, OrObject) for extra in arguments[1:]):
            return mismatch if isinstance(value, _PLAIN) else value
        if found is not mismatch and not all(found in bound for bound in bounds):
            reasons.append("bounds")
            return mismatch
        return found
    if origin in (Union, UnionType):
        options = (_converted(value, option, mismatch, reasons) for option in arguments)
        return next((found for found in options if found is not mismatch), mismatch)
    if origin is Literal:
        if isinstance(value, str | int | NoneType) and value in arguments:
            return value
        reasons.extend(["choice"] * isinstance(value, str))
        return mismatch
    if origin is tuple:
        if not isinstance(value, list | tuple) or arguments[-1] is not Ellipsis:
            return mismatch
        items = [_converted(item, arguments[0], mismatch, reasons) for item in value]
        return mismatch if any(item is mismatch for item in items) else tuple(items)
    if annotation in _NUMBERS:
        return _NUMBERS[annotation](value, mismatch, reasons)
    if annotation is Any or isinstance(value, _class_of(annotation)):
        return value
    if isinstance(value, Mapping) and is_dataclass(annotation) and isinstance(annotation, type):
        return from_json(annotation, value, annotation.__name__)
    return Path(value) if annotation is Path and isinstance(value, str) else mismatch


def _integer(value: Any, mismatch: object, reasons: list[str]) -> Any:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | np.integer):
        reasons.extend(["whole"] * isinstance(value, float))
        return mismatch
    return operator.index(value)


def _real(value: Any, mismatch: object, reasons: list[str]) -> Any:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        return mismatch
    if not _is_finite(value):
        reasons.append("finite")
        return mismatch
    return value if type(value) in (int, float) else (float(value) if isinstance(value, np.floating) else int(value))


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of more digits than a float can hold
        return False


def _truth(value: Any, mismatch: object, reasons: list[str]) -> Any:
    return bool(value) if isinstance(value, bool | np.bool_) else mismatch


_PLAIN = (NoneType, bool, int, float, complex, bytes, list, tuple, dict, set, np.generic, np.ndarray)
"""Types that are no objects in the sense of `OrObject`."""
_NUMBERS: dict[Any, Any] = {int: _integer, float: _real, bool: _truth}


def _class_of(annotation: Any) -> type:
    if annotation is None:
        return NoneType
    found = get_origin(annotation) or annotation
    return found if isinstance(found, type) else object


def describe(annotation: Any) -> str:
    """An annotation in words: "None or an integer >= 1"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = "".join(str(extra) for extra in arguments[1:] if isinstance(extra, Bounds))
        objects = "".join(f", a path or {extra.what}" for extra in arguments[1:] if isinstance(extra, OrObject))
        return describe(arguments[0]) + bounds + objects
    if origin in (Union, UnionType):
        options = sorted(arguments, key=lambda option: option is not NoneType)
        return " or ".join(describe(option) for option in options)
    if origin is Literal:
        return f"one of {list(arguments)}"
    if origin is tuple:
        return f"a tuple, each entry {describe(arguments[0])}"
    words = {
        int: "an integer",
        float: "a finite number",
        bool: "True or False",
        str: "a string",
        Path: "a path",
        Any: "anything",
    }
    return words.get(annotation, "None" if annotation in (None, NoneType) else _class_of(annotation).__name__)


def _short(value: Any) -> str:
    shown = " ".join(repr(value).split())  # in one line
    return shown if len(shown) <= 100 else f"{shown[:100]}... ({type(value).__name__})"
