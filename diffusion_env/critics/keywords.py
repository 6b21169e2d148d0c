"""The keywords that a user may give for a named critic: its constructor's, checked against their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import cache
from typing import Any, get_type_hints

from diffusion_env.critics.base import Critic
from diffusion_env.fields import describe, from_json

FROM_THE_TASK = ("shape", "seed")
"""Arguments of every constructor that `make_critic` gives itself."""


def checked_keywords(kind: type[Critic], keywords: Mapping[str, Any], given_as: str) -> dict[str, Any]:
    """``keywords`` as the constructor of ``kind`` takes them; numbers of numpy become Python's.

    Raises ValueError for a keyword that it does not have or a value out of bounds, TypeError for a value of another
    type. The error lists all keywords with their types and defaults; ``given_as`` says where these came from.
    """
    try:
        filled = from_json(_form(kind), keywords, given_as)
    except (TypeError, ValueError) as error:
        hints = get_type_hints(kind.__init__, include_extras=True)
        taken = [f"{p.name}: {describe(hints.get(p.name, Any))} ({p.default!r})" for p in _parameters(kind)]
        raise type(error)(f"{error} The critic {kind.name!r} takes, with defaults, {'; '.join(taken)}.") from None
    return {name: getattr(filled, name) for name in keywords}


def _parameters(kind: type[Critic]) -> list[inspect.Parameter]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(kind).parameters.values()
    return [p for p in parameters if p.kind in named and p.name not in FROM_THE_TASK]


@cache
def _form(kind: type[Critic]) -> type[Any]:
    """A dataclass with the keywords as fields."""
    hints = get_type_hints(kind.__init__, include_extras=True)
    blank = {p.name: field() if p.default is p.empty else field(default=None) for p in _parameters(kind)}
    items = [(name, hints.get(name, Any), one) for name, one in blank.items()]
    return make_dataclass(kind.__name__, items, kw_only=True)
