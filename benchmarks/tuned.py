"""Hyper-parameters that the comparison takes from tuning: results/tuning/NAME.json, the best.json of a study each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parent / "results" / "tuning"


def has_study(name: str) -> bool:
    """Whether there is a study called ``name``."""
    return (STUDIES / f"{name}.json").is_file()


@cache
def study(name: str) -> dict[str, Any]:
    """What ``ddpm-shortcut tune`` wrote for the study ``name``; FileNotFoundError lists the studies there are."""
    if not has_study(name):
        there = sorted(other.stem for other in STUDIES.glob("*.json"))
        raise FileNotFoundError(
            f"No study {name!r} in {STUDIES}. Choose one of {there}, or tune and copy its best.json."
        )
    found: dict[str, Any] = json.loads((STUDIES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def tuned(name: str, **changes: Any) -> dict[str, Any]:
    """Changes of the algorithm's row: what the study held, what its best trial chose, and then ``changes``."""
    return {**study(name)["problem"]["held"], **study(name)["changes"], **changes}
