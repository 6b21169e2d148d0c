"""The figures of a comparison: final scores with their intervals, and learning curves with theirs."""

from __future__ import annotations

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from agents.figures import AFTER, DATA, INK
from agents.sb3.registry import SB3_ALGORITHMS
from benchmarks.compare_tables import BOOTSTRAP_SEED, groups
from benchmarks.grids import Entry, Task
from benchmarks.scores import CURVE_GRID, LOWEST, Results
from benchmarks.statistics import iqm_interval

COLOURS = colormaps["tab10"].colors  # type: ignore[attr-defined]
DPI = 100


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
    """IQM and interval of the score against environment steps, one panel for each group of tasks."""
    grouped = groups(results)
    columns = min(3, len(grouped))
    rows = -(-len(grouped) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.0 * rows + 0.6), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for axis, (name, tasks) in zip(axes, grouped.items(), strict=False):
        for number, entry in enumerate(results.grid.entries):
            _draw_curve(axis, number, results, entry, tasks)
        _mark_references(axis.axhline)
        axis.set_title(name, color=INK, fontsize=11)
        axis.set_ylim(max(LOWEST, axis.get_ylim()[0]), None)
        _plain(axis)
    for axis in axes[len(grouped) :]:
        axis.set_axis_off()
    figure.supxlabel("environment steps, share of the budget", fontsize=10, color=INK)
    lines, names = axes[0].get_legend_handles_labels()
    if lines:
        figure.legend(lines, names, loc="outside right center", frameon=False, fontsize=9)
    return figure


def _draw_curve(axis: Axes, number: int, results: Results, entry: Entry, tasks: tuple[Task, ...]) -> None:
    curves = results.curves(entry.name, tasks)
    if not curves:
        return
    estimate, low, high = iqm_interval(list(curves.values()), BOOTSTRAP_SEED)
    colour, dashed = COLOURS[number % len(COLOURS)], entry.algorithm in SB3_ALGORITHMS
    axis.plot(CURVE_GRID, estimate, color=colour, lw=1.5, ls="--" if dashed else "-", label=entry.name)
    axis.fill_between(CURVE_GRID, low, high, color=colour, alpha=0.12, lw=0)


def _mark_references(line: object) -> None:
    assert callable(line)
    for reference in (0.0, 1.0):
        line(reference, color=DATA, lw=0.8, ls=":")


def _plain(axis: Axes) -> None:
    axis.grid(alpha=0.25, lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=9)
