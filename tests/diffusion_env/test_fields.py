"""Configurations are checked against their own annotations: every kind of field, right and wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from diffusion_env.fields import (
    Count,
    Decay,
    Positive,
    Share,
    Weight,
    check_fields,
    checked,
    checked_counts,
    describe,
    from_json,
)


@dataclass(frozen=True)
class Inner:
    size: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class Example:
    count: Count = 3
    anything: int = 0
    rate: Weight = 1e-3
    scale: Positive = 1.0
    decay: Decay = 0.9
    share: Share = 1.0
    clip: Positive | None = None
    on: bool = True
    name: str = "a"
    mode: Literal["fast", "slow"] = "fast"
    seeds: tuple[Count, ...] = (1, 2)
    folder: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        check_fields(self)


GOOD: list[tuple[str, Any, Any]] = [
    ("count", np.int64(7), 7),
    ("count", 10**12, 10**12),
    ("anything", -3, -3),
    ("rate", 0, 0),
    ("rate", np.float32(0.5), 0.5),
    ("rate", np.int32(2), 2),
    ("clip", None, None),
    ("clip", 0.5, 0.5),
    ("on", np.bool_(False), False),
    ("seeds", [np.int64(3)], (3,)),
    ("seeds", (), ()),
    ("folder", "a/b", Path("a/b")),
    ("decay", 0, 0),
    ("share", 1, 1),
]


@pytest.mark.parametrize(("name", "value", "kept"), GOOD)
def test_what_is_allowed_is_kept_as_python_numbers(name: str, value: Any, kept: Any) -> None:
    found = getattr(Example(**{name: value}), name)
    assert found == kept and type(found) is type(kept)


BAD: list[tuple[str, Any, type[Exception], str]] = [
    ("count", 0, ValueError, "Example.count must be an integer >= 1; received 0."),
    ("count", True, TypeError, "Example.count must be an integer >= 1; received True."),
    ("count", 1.5, ValueError, "an integer >= 1; received 1.5"),
    ("count", "7", TypeError, "received '7'"),
    ("count", None, TypeError, "received None"),
    ("count", np.array(7), TypeError, r"received array\(7\)"),
    ("count", torch.tensor(7), TypeError, r"received tensor\(7\)"),
    ("rate", float("nan"), ValueError, "a finite number >= 0; received nan"),
    ("rate", float("inf"), ValueError, "received inf"),
    ("rate", -1, ValueError, "received -1"),
    ("rate", "0.1", TypeError, "received '0.1'"),
    ("rate", 1j, TypeError, "received 1j"),
    ("rate", np.ones(2), TypeError, "received array"),
    ("scale", 0, ValueError, "a finite number > 0; received 0"),
    ("decay", 1.0, ValueError, r"a finite number in \[0, 1\); received 1.0"),
    ("share", 1.1, ValueError, r"in \[0, 1\]; received 1.1"),
    ("clip", "no", TypeError, "None or a finite number > 0; received 'no'"),
    ("clip", -1.0, ValueError, "None or a finite number > 0"),
    ("on", 1, TypeError, "True or False; received 1"),
    ("on", "False", TypeError, "True or False; received 'False'"),
    ("name", 3, TypeError, "a string; received 3"),
    ("mode", "medium", ValueError, r"one of \['fast', 'slow'\]; received 'medium'"),
    ("mode", ["fast"], TypeError, "received"),
    ("seeds", 3, TypeError, "a tuple, each entry an integer >= 1; received 3"),
    ("seeds", (1, 0), ValueError, r"received \(1, 0\)"),
    ("seeds", "12", TypeError, "received '12'"),
    ("folder", 3, TypeError, "None or a path"),
    ("options", [], TypeError, "Mapping; received"),
    ("inner", 3, TypeError, "Inner; received 3"),
    ("name", b"x" * 1_000, TypeError, r"\.\.\. \(bytes\)\.$"),
]


@pytest.mark.parametrize(("name", "value", "kind", "message"), BAD)
def test_what_is_not_allowed_is_named(name: str, value: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as caught:
        Example(**{name: value})
    assert f"Example.{name} must be" in str(caught.value)


def test_json_and_back() -> None:
    example = Example(seeds=(5, 6), inner=Inner(4))
    content = {**asdict(example), "seeds": [5, 6], "folder": None}
    assert from_json(Example, content, "The file") == example


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "The file must be a dict of the fields of Example; received None"),
        ([1], "received"),
        ({"cuont": 3}, r"\['cuont'\] are not among them"),
        ({3: 1}, r"\['3'\] are not among them"),
        ({"count": "3"}, "The file, count must be an integer"),
        ({"inner": {"size": 0}}, "Inner, size must be an integer >= 1"),
        ({"inner": {"os": 0}}, r"\['os'\] are not among"),
    ],
)
def test_json_that_is_something_else_is_refused(content: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        from_json(Example, content, "The file")


def test_a_field_without_a_default_must_be_there() -> None:
    @dataclass(frozen=True)
    class Needs:
        size: int

    with pytest.raises(ValueError, match=r"\['size'\] are missing"):
        from_json(Needs, {}, "The file")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [(int | None, "None or an integer"), (str | Path, "a string or a path"), (Any, "anything"), (None, "None")],
)
def test_annotations_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


@pytest.mark.parametrize("counts", [3, [1, -1], [True], [1.5], [2**63], [None]])
def test_counts_are_whole_numbers_from_zero(counts: Any) -> None:
    assert checked_counts([0, 3, 2**63 - 1]) == (0, 3, 2**63 - 1)
    with pytest.raises((TypeError, ValueError), match="a list of counts must be"):
        checked_counts(counts)


def test_a_whole_number_too_large_for_a_float_is_not_finite() -> None:
    with pytest.raises(ValueError, match="the step size must be a finite number"):
        checked(10**400, float, "the step size")
