"""The keywords that a user may give for a named critic, read from its constructor."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from diffusion_env.critics.base import Critic

FROM_THE_TASK = ("shape", "seed")
"""Arguments of a constructor that `make_critic` gives itself."""


def check_keywords(kind: type[Critic], keywords: Mapping[str, Any], given_as: str = "critic_kwargs") -> None:
    """ValueError unless the constructor of ``kind`` takes each of ``keywords``, with a value of its type.

    ``given_as`` says in the error where they come from.
    """
    parameters = {n: p for n, p in inspect.signature(kind).parameters.items() if n not in FROM_THE_TASK}
    hints = get_type_hints(kind.__init__)
    for name, value in keywords.items():
        if name not in parameters:
            problem = f"no keyword {name!r}"
        elif not is_of_type(value, hints.get(name, Any)):
            problem = f"no {name}={value!r}, which is of type {type(value).__name__}"
        else:
            continue
        taken = ", ".join(str(parameter) for parameter in parameters.values())
        raise ValueError(
            f"The critic {kind.name!r} received {given_as}={dict(keywords)!r}, but it takes {problem}. Its keywords, "
            f"their types and defaults are {taken}. Leave the others out."
        )


def is_of_type(value: Any, hint: Any) -> bool:
    """Whether ``value`` is one of the type ``hint``: as in JSON an int is also a float, and no bool is a number.

    Known are int, float, str, bool, None, unions and sequences of these; any other hint takes everything.
    """
    if get_origin(hint) in (Union, UnionType):
        return any(is_of_type(value, one) for one in get_args(hint))
    if get_origin(hint) in (Sequence, list, tuple):
        plain = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        return plain and all(is_of_type(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        allowed = int if hint is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (str, bool, NoneType) else True
