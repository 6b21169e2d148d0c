"""Results as JSON lines: one file per entry, ``FOLDER/ENTRY.jsonl``.

The first line says once what runs share: the entry, every setting that its runs were made with, and with what (library
versions, machine, commit). Each further line is a run, in a fixed order; ``settings`` and ``made_with`` of a run are
indices into the lists of the first line. In memory a result is one dictionary with everything written out.

Processes never write to the same file: each run writes a part of its own into ``FOLDER/working``, which git ignores,
and `merge_parts` moves the parts into the files of the entries.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffusion_env.checkpoints import write_atomically, write_json

RunResult = dict[str, Any]
"""A run: entry, task, seed, settings, status, costs, metrics, curve, versions, machine, commit."""

SUFFIX = ".jsonl"
WORKING = "working"
MADE_WITH = ("versions", "machine", "commit")


def entry_path(folder: Path, entry: str) -> Path:
    """Where the runs of ``entry`` are."""
    return folder / f"{entry}{SUFFIX}"


def run_key(result: RunResult) -> tuple[Any, ...]:
    """What tells runs of one entry apart, and orders them: number of steps, data set, rest of the task, seed."""
    task = result["task"]
    return task["num_steps"], task["dataset"], json.dumps(task, sort_keys=True), result["seed"]


def write_entry(path: Path, results: Iterable[RunResult]) -> Path:
    """Write the runs of one entry, atomically; equal runs give an equal file, in whatever order they come."""
    runs = sorted(results, key=run_key)
    settings, made_with = _Variants(), _Variants()
    lines = [
        {
            "task": run["task"],
            "seed": run["seed"],
            "settings": settings.index(run["settings"]),
            "made_with": made_with.index({key: run[key] for key in MADE_WITH}),
            **{key: x for key, x in run.items() if key not in ("entry", "task", "seed", "settings", *MADE_WITH)},
        }
        for run in runs
    ]
    header = {"entry": path.stem, "settings": settings.factored(), "made_with": made_with.factored()}
    return write_atomically(path, "".join(json.dumps(line) + "\n" for line in [header, *lines]).encode())


class _Variants:
    """The different dictionaries among those that are given, in the order of their first use.

    They are compared as JSON, because 1 and 1.0 are equal in Python and are not the same text.
    """

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

    def index(self, one: dict[str, Any]) -> int:
        text = json.dumps(one, sort_keys=True)
        self.found.setdefault(text, one)
        return list(self.found).index(text)

    def factored(self) -> dict[str, Any]:
        """``same``: the items that all have. ``differing``: the other items of each."""
        items = [{(key, json.dumps(x, sort_keys=True)) for key, x in one.items()} for one in self.found.values()]
        shared = {key for key, _ in set.intersection(*items)} if items else set()
        first = next(iter(self.found.values()), {})
        return {
            "same": {key: x for key, x in first.items() if key in shared},
            "differing": [{key: x for key, x in one.items() if key not in shared} for one in self.found.values()],
        }


def read_entry(path: Path) -> list[RunResult]:
    """The runs of an entry, everything written out; ValueError names the line that is damaged."""
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    with _named(path, 1):
        header = json.loads(first)
        entry = header["entry"]
        settings, made_with = (
            [{**header[key]["same"], **one} for one in header[key]["differing"]] for key in ("settings", "made_with")
        )
    if entry != path.stem:
        raise ValueError(f"{path} holds the runs of {entry!r}. Name the file {entry}{SUFFIX}.")
    results = []
    for number, text in enumerate(lines, 2):
        with _named(path, number):
            line = json.loads(text)
            made = made_with[line.pop("made_with")]
            results.append({**line, "entry": entry, "settings": settings[line["settings"]], **made})
            run_key(results[-1])
    return results


@contextmanager
def _named(path: Path, number: int) -> Iterator[None]:
    """Says which line it was that could not be read."""
    try:
        yield
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}, line {number}, is damaged ({type(error).__name__}: {error}). Take the file from git again, or "
            "delete it: its runs are then made anew."
        ) from error


def read_folder(folder: Path) -> dict[str, list[RunResult]]:
    """The runs in ``folder`` by entry, entries in the order of their names."""
    return {path.stem: read_entry(path) for path in sorted(folder.glob(f"*{SUFFIX}"))}


def write_part(folder: Path, result: RunResult) -> Path:
    """Write one run where `merge_parts` finds it; processes that write different runs do not meet."""
    task = "_".join(str(value).replace("/", "_") for value in result["task"].values())
    return write_json(folder / WORKING / f"{result['entry']}__{task}__{result['seed']}.json", result)


def merge_parts(folder: Path) -> int:
    """Move the runs that are in ``folder/working`` into the files of their entries; returns how many.

    A part replaces the run of the same entry, task and seed. It is deleted after the entry's file is written, so a
    process that is killed loses nothing. Several processes may call this at the same time.
    """
    if not (folder / WORKING).is_dir():
        return 0
    with _locked(folder / WORKING):
        parts = {path: json.loads(path.read_text(encoding="utf-8")) for path in (folder / WORKING).glob("*.json")}
        for entry in {part["entry"] for part in parts.values()}:
            path = entry_path(folder, entry)
            runs = {run_key(run): run for run in (read_entry(path) if path.exists() else [])}
            runs |= {run_key(part): part for part in parts.values() if part["entry"] == entry}
            write_entry(path, runs.values())
        for path in parts:
            path.unlink()
    return len(parts)


@contextmanager
def _locked(working: Path) -> Iterator[None]:
    """One process at a time; the lock of a process that is killed is gone with it."""
    with open(working / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
