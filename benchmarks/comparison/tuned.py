"""Hyper-parameters that the comparison takes from tuning: results/tuning/STAGE/NAME.json, a study's best.json each.

Two stages: "few_steps" was tuned at K = 1 and 5; "many_steps" took its result and tuned the step size and one more
hyper-parameter again at K = 8, with a longer budget.
"""

from __future__ import annotations

import json
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from agents.algorithms.presets import PRESETS

STUDIES = Path(__file__).parent.parent / "results" / "tuning"
FEW, MANY = STAGES = ("few_steps", "many_steps")


def _plain(name: str) -> dict[str, Any]:
    """The fields of the preset called ``name`` that differ from its class's, with the values of the class."""
    config = PRESETS[name].config
    return {f.name: f.default for f in fields(config) if getattr(config, f.name) != f.default}


FIRST_EDITION = {
    "sft_pg": _plain("sft_pg"),
    "pathwise": _plain("pathwise"),
    "pathwise_whole": _plain("pathwise"),
}
"""Defaults that these studies were made with, which the presets have left since."""


def has_study(name: str, stage: str = FEW) -> bool:
    """Whether there is a study called ``name`` in ``stage``."""
    return (STUDIES / stage / f"{name}.json").is_file()


@cache
def study(name: str, stage: str = FEW) -> dict[str, Any]:
    """What ``ddpm-shortcut tune`` wrote for the study ``name``; FileNotFoundError lists the studies there are."""
    if not has_study(name, stage):
        there = sorted(other.stem for other in (STUDIES / stage).glob("*.json"))
        raise FileNotFoundError(
            f"No study {name!r} in {STUDIES / stage}. Choose one of {there}, or tune and copy its best.json."
        )
    found: dict[str, Any] = json.loads((STUDIES / stage / f"{name}.json").read_text(encoding="utf-8"))
    return found


def tuned(name: str, stage: str = FEW) -> dict[str, Any]:
    """Changes of the algorithm's preset: what was another default then, what the study fixed, and what its best trial
    chose."""
    found = study(name, stage)
    untuned = FIRST_EDITION.get(name, {})
    fixed = found["problem"]["fixed" if "fixed" in found["problem"] else "held"]  # the word of older studies
    return {**untuned, **fixed, **found["changes"]}
