"""Where named data sets are looked for, and how a path goes with a name: ``NAME:PATH``. Imports nothing heavy."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "DDPM_SHORTCUT_DATA"


def cache_folder() -> Path:
    """Where data sets that were fetched lie: $DDPM_SHORTCUT_DATA, or ddpm-shortcut in the user's cache folder."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-shortcut"


def name_and_place(dataset: str | Path) -> tuple[str, Path | None]:
    """("cifar10", Path("/data")) of "cifar10:/data"; a name or a path alone is returned as it is, with None.

    A name has two letters at least, so a drive of Windows is none.
    """
    name, sign, place = str(dataset).partition(":")
    if sign and place and name.isidentifier() and len(name) > 1:
        return name, Path(place)
    return str(dataset), None
