"""Read a pickled dict of plain values and numpy arrays without unpickling: nothing is imported, nothing is called.

`pickletools.genops` splits the file into its instructions. Those that CIFAR-10's batches have are carried out here on
plain values; every other one is refused. A name that the file wants to import is only compared with a few known ones.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RECONSTRUCT = {f"numpy.{package}.multiarray _reconstruct" for package in ("core", "_core")}
DTYPE, ENCODE, ARRAY_TYPE = "numpy dtype", "_codecs encode", "numpy ndarray"
KNOWN = {*RECONSTRUCT, DTYPE, ENCODE, ARRAY_TYPE}
"""What numpy's uint8 arrays name, written by Python 2 or 3."""

VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES",
    "SHORT_BINBYTES", "BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
}  # fmt: skip
"""Instructions that put their own argument on the stack."""
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
IGNORED = {"PROTO", "FRAME"}
NEW = ("TUPLE", "LIST", "DICT")
CONTAINERS: dict[str, tuple[type, int]] = {
    "TUPLE": (tuple, 0),
    "LIST": (list, 0),
    "DICT": (dict, 0),
    "APPEND": (list, 1),
    "APPENDS": (list, 0),
    "SETITEM": (dict, 2),
    "SETITEMS": (dict, 0),
}
"""Kind of container, and how many items it takes from the stack; 0 takes all that lie above the last mark."""


def read_batch(content: bytes, source: str) -> dict[str, Any]:
    """The dict that ``content`` holds, with text as keys and uint8 arrays in the shape that they say.

    ``source`` names the file in errors. Raises ValueError for a pickle that wants to import anything but numpy's
    arrays, and for whatever else is no dict of plain values and uint8 arrays.
    """
    try:
        found = _Machine().run(content)
        if not isinstance(found, dict):
            raise _Refused(f"holds a {type(found).__name__} and no dict")
        return {_text(key): _finished(value) for key, value in found.items()}
    except _Refused as error:
        raise ValueError(f"{source} {error}. Only plain values and uint8 arrays are read: give the original.") from None
    # A damaged file makes pickletools and the stack below raise many kinds of errors; none of them is a fault of ours.
    except Exception as error:
        raise ValueError(f"{source} cannot be read ({error!r}): it is damaged. Give the original.") from error


class _Refused(ValueError):
    """What is wrong with a pickle, as the end of a sentence about it."""


@dataclass(frozen=True)
class _Global:
    """A name that the file wants to import: it stays a name."""

    name: str


@dataclass(eq=False)
class _Array:
    """An array that is not filled yet."""

    state: tuple[Any, ...] = ()


@dataclass(frozen=True)
class _Dtype:
    name: Any


@dataclass
class _Machine:
    """The stack and the memory of a pickle."""

    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)  # heights of the stack
    memo: dict[Any, Any] = field(default_factory=dict)

    def run(self, content: bytes) -> Any:
        for code, argument, _ in pickletools.genops(content):
            name = code.name
            if name == "STOP":
                return self.stack.pop()
            if name in VALUES:
                self.stack.append(argument)
            elif name in CONSTANTS:
                self.stack.append(CONSTANTS[name]())
            elif name in TUPLES:
                self.stack[-TUPLES[name] :] = [tuple(self.stack[-TUPLES[name] :])]
            elif name not in IGNORED:
                self._step(name, argument)
        raise _Refused("has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            self.stack.append(_known(argument if name == "GLOBAL" else " ".join(map(str, self._pop(2)))))
        elif name == "REDUCE":
            self.stack.append(_made(*self._pop(2)))
        elif name == "BUILD":
            target, state = self.stack[-2], self.stack.pop()
            if isinstance(target, _Array):
                target.state = state
            elif not isinstance(target, _Dtype):
                raise _Refused(f"fills a {type(target).__name__}")
        else:
            self._collect(name)

    def _collect(self, name: str) -> None:
        """Instructions that put what lies on the stack into a container."""
        if name not in CONTAINERS:
            raise _Refused(f"has the instruction {name}")
        kind, single = CONTAINERS[name]
        start = len(self.stack) - single if single else self.marks.pop()
        items = self._pop(len(self.stack) - start)
        if name in NEW:
            self.stack.append(kind())
        target = self.stack[-1]
        if kind is tuple:
            self.stack[-1] = tuple(items)
        elif isinstance(target, list) and kind is list:
            target.extend(items)
        elif isinstance(target, dict) and kind is dict:
            target.update(zip(map(_key, items[::2]), items[1::2], strict=True))
        else:
            raise _Refused(f"puts items into a {type(target).__name__}")

    def _pop(self, count: int) -> list[Any]:
        start = len(self.stack) - count
        taken = self.stack[start:]
        del self.stack[start:]
        return taken


def _known(name: str) -> _Global:
    if name not in KNOWN:
        raise _Refused(f"wants to import {name!r}, and nothing is imported for a file")
    return _Global(name)


def _made(called: Any, arguments: Any) -> Any:
    """What numpy's or Python's function of this name would return, for the few names that are known."""
    name = called.name if isinstance(called, _Global) else None
    if name in RECONSTRUCT:
        return _Array()
    if name == DTYPE:
        return _Dtype(arguments[0])
    if name == ENCODE:
        return arguments[0].encode("latin-1")
    raise _Refused(f"calls a {type(called).__name__}")


def _key(value: Any) -> Hashable:
    if not isinstance(value, str | bytes):
        raise _Refused(f"has a key that is a {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _finished(value: Any) -> Any:
    return _filled(value) if isinstance(value, _Array) else value


def _filled(array: _Array) -> NDArray[np.uint8]:
    _, shape, dtype, fortran_order, content = array.state
    raw = content.encode("latin-1") if isinstance(content, str) else content
    if not isinstance(dtype, _Dtype) or _text(dtype.name) not in ("u1", "uint8", "|u1"):
        raise _Refused(f"holds an array of {getattr(dtype, 'name', dtype)!r}")
    if min(shape, default=0) < 0 or math.prod(shape) != len(raw):
        raise _Refused(f"promises an array of shape {shape} with {len(raw)} bytes")
    return np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran_order else "C")
