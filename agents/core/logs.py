"""What a checkpoint keeps of the log, so that a resumed run holds every line exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.logger import DISABLED, Logger

from diffusion_env.fields import Counter, FieldTypeError, check_fields, checked, from_json


class CountedLogger(Logger):
    """stable-baselines3's logger, which counts the lines that it wrote."""

    lines = 0

    def dump(self, step: int = 0) -> None:
        """Write one line at ``step`` environment steps."""
        if self.level != DISABLED:
            self.lines += 1
        super().dump(step)


def log_state(logger: Logger | None) -> dict[str, Any]:
    """``lines`` written so far (0 where nobody counts them) and the numbers recorded for the next one, ``pending``."""
    if logger is None:
        return {"lines": 0, "pending": {}}
    pending = {
        key: [float(value), logger.name_to_count.get(key, 0), list(logger.name_to_excluded[key])]
        for key, value in logger.name_to_value.items()
        if isinstance(value, int | float | np.number) and key in logger.name_to_excluded
    }
    return {"lines": getattr(logger, "lines", 0), "pending": pending}


def checked_log(state: Any) -> Mapping[str, Any] | None:
    """What `log_state` kept, read from a file; None stays (older files have none).

    TypeError or ValueError where it is anything else.
    """
    if state is None:
        return None
    kept = from_json(_LogState, state, "the log")
    for name, entry in kept.pending.items():
        value, count, excluded = entry
        checked(count, Counter, f"the count of {name!r}")
        checked(excluded, tuple[str, ...], f"the formats that leave {name!r} out")
        if type(value) is not float or not isinstance(name, str):
            raise FieldTypeError(f"The log holds {value!r} under {name!r}, where a number has a name.")
    return {"lines": kept.lines, "pending": kept.pending}


@dataclass(frozen=True)
class _LogState:
    lines: Counter
    pending: Mapping[str, Any]

    def __post_init__(self) -> None:
        check_fields(self)


def restore_pending(logger: Logger, logged: Mapping[str, Any]) -> None:
    """Record again what `log_state` kept for the next line."""
    for key, (value, count, excluded) in logged["pending"].items():
        logger.record(key, value, tuple(excluded))
        logger.name_to_count[key] = count
