"""What generated reports share: tables, the part of a file between two markers, and what the numbers were made with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, without a newline at its end."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, ["---"] * len(columns), *rows])


def replaced_between(text: str, start: str, end: str, body: str) -> str:
    """``text`` with ``body`` between the lines ``start`` and ``end``; ValueError unless each is there once."""
    before, after = text.split(start), text.split(end)
    if len(before) != 2 or len(after) != 2:
        raise ValueError(f"The file must hold the lines {start!r} and {end!r} once each.")
    return f"{before[0]}{start}\n\n{body}\n\n{end}{after[1]}"


def made_with(runs: Sequence[dict[str, Any]]) -> str:
    """The section on the machines, commits and library versions behind ``runs``."""
    machines = sorted(
        {f"{r['machine']['processor']}, {r['machine']['cores']} cores, 1 torch thread a run" for r in runs}
    )
    commits = sorted({r["commit"] for r in runs})
    versions = sorted({json.dumps(r["versions"]) for r in runs})
    lines = [f"- {line}" for line in [*machines, f"commits {', '.join(commits)}", *versions]]
    return "\n## Made with\n\n" + "\n".join(lines) + "\n"
