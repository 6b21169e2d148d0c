"""The figures of a comparison: final scores with their intervals, and learning curves with theirs."""

from __future__ import annotations

from pathlib import Path

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from agents.core.task import Task
from agents.runs.figures import AFTER, DATA, INK, pixels
from benchmarks.comparison.grid import Entry
from benchmarks.comparison.scores import CURVE_GRID, Results
from benchmarks.comparison.statistics import iqm_interval
from benchmarks.comparison.tables import BOOTSTRAP_SEED, groups

COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined]
DPI = 100
PALETTE = 128


def scores_figure(results: Results) -> Figure:
    """IQM and interval of every entry: one panel for all tasks and one for each K."""
    grouped, entries = groups(results), results.grid.entries
    figure = Figure(figsize=(2.2 + 2.1 * len(grouped), 1.2 + 0.3 * len(entries)), dpi=DPI, layout="constrained")
    axes = figure.subplots(1, len(grouped), sharey=True, squeeze=False)[0]
    for axis, (name, tasks) in zip(axes, grouped.items(), strict=True):
        for row, entry in enumerate(entries):
            _draw_score(axis, row, results, entry, tasks)
        _mark_references(axis.axvline)
        axis.set_title(name, color=INK, fontsize=11)
        axis.set_yticks(range(len(entries)), [entry.name for entry in entries])
        _plain(axis)
    axes[0].invert_yaxis()
    figure.supxlabel("score: 0 untouched, 1 fresh data (IQM, 95 % interval)", fontsize=10, color=INK)
    return figure


def _draw_score(axis: Axes, row: int, results: Results, entry: Entry, tasks: tuple[Task, ...]) -> None:
    scores = results.scores(entry.name, "sw2", tasks)
    if scores:
        estimate, low, high = (float(x) for x in iqm_interval(list(scores.values()), BOOTSTRAP_SEED))
        axis.plot([low, high], [row, row], color=AFTER, lw=3, alpha=0.45, solid_capstyle="butt")
        axis.plot(estimate, row, "o", color=AFTER, ms=5)


def curves_figure(results: Results) -> Figure:
    """IQM and interval of the score against environment steps: a row for each family of entries.

    The panels are all tasks and every K; of more than two K, the least and the one with the most tasks.
    """
    panels, families = _panels(results), _families(results)
    figure = Figure(figsize=(2.0 + 3.4 * len(panels), 0.6 + 3.0 * len(families)), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(families), len(panels), sharex=True, sharey="col", squeeze=False)
    for row, entries in zip(axes, families, strict=True):
        for axis, (name, tasks) in zip(row, panels.items(), strict=True):
            for colour, entry in zip(COLOURS * len(entries), entries, strict=False):
                _draw_curve(axis, colour, results, entry, tasks)
            _mark_references(axis.axhline)
            axis.set_title(name, color=INK, fontsize=11)
            _plain(axis)
        row[-1].legend(*row[0].get_legend_handles_labels(), loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.supxlabel("environment steps, share of the budget", fontsize=10, color=INK)
    figure.supylabel("score of the sampler while it trains", fontsize=10, color=INK)
    return figure


def _panels(results: Results) -> dict[str, tuple[Task, ...]]:
    everything, *by_steps = groups(results).items()
    shown = by_steps if len(by_steps) <= 2 else [by_steps[0], max(by_steps, key=lambda group: len(group[1]))]
    return dict([everything, *shown])


def _families(results: Results) -> list[list[Entry]]:
    entries = results.grid.entries
    return [[e for e in entries if e.family == family] for family in dict.fromkeys(e.family for e in entries)]


def _draw_curve(axis: Axes, colour: object, results: Results, entry: Entry, tasks: tuple[Task, ...]) -> None:
    curves = results.curves(entry.name, tasks)
    if curves:
        estimate, low, high = iqm_interval(list(curves.values()), BOOTSTRAP_SEED)
        axis.plot(CURVE_GRID, estimate, color=colour, lw=1.5, label=entry.name)
        axis.fill_between(CURVE_GRID, low, high, color=colour, alpha=0.12, lw=0)


def save_small(figure: Figure, path: Path) -> None:
    """Write the figure as PNG with a palette, a third of the size."""
    Image.fromarray(pixels(figure)).quantize(PALETTE).save(path, optimize=True)


def _mark_references(line: object) -> None:
    assert callable(line)
    for reference in (0.0, 1.0):
        line(reference, color=DATA, lw=0.8, ls=":")


def _plain(axis: Axes) -> None:
    axis.grid(alpha=0.25, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
