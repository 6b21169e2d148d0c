"""Hyper-parameters that the comparison takes from tuning: results/tuning/NAME.json, the best.json of a study each."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

STUDIES = Path(__file__).parent / "results" / "tuning"


@cache
def study(name: str) -> dict[str, Any]:
    """What ``ddpm-shortcut tune`` wrote for the study ``name``; FileNotFoundError lists the studies there are."""
    path = STUDIES / f"{name}.json"
    if not path.is_file():
        there = sorted(other.stem for other in STUDIES.glob("*.json"))
        raise FileNotFoundError(
            f"No study {name!r} in {STUDIES}. Choose one of {there}, or tune and copy its best.json."
        )
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tuned(name: str, **changes: Any) -> dict[str, Any]:
    """Changes of the algorithm's row: what the study held, what its best trial chose, and then ``changes``."""
    return {**study(name)["problem"]["held"], **study(name)["changes"], **changes}
