"""Pictures of samples and of learning curves, drawn without pyplot so that no global state or window is touched."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from diffusion_env.checkpoints import write_atomically
from diffusion_env.rendering import MAX_IMAGES, image_grid, is_image

Points = NDArray[np.float32]

BEFORE, AFTER, DATA, PALE, INK = "#d1495b", "#2a6f97", "#3d3d3d", "#d9d9d9", "#333333"
MARGIN = 0.08


class Panel(NamedTuple):
    """One picture of a row: points (n, *shape) in data units, a heading, and a colour for events that are points."""

    points: Points
    title: str
    colour: str


class Curve(NamedTuple):
    """A learning curve: environment steps (n,) and values (n,)."""

    steps: Sequence[float]
    values: Sequence[float]


def samples_figure(panels: Sequence[Panel], data: Points) -> Figure:
    """The panels side by side on the scale of ``data`` (m, *shape), which lies pale beneath each of them.

    Points are drawn by their first two coordinates (a histogram if they have one), images as a mosaic of the first 64.
    """
    figure = Figure(figsize=(4.2 * len(panels), 4.6), dpi=120)
    # matplotlib's constrained layout is not used: it cuts titles off where axes have a fixed aspect.
    edge = 0.5 / len(panels)
    figure.subplots_adjust(left=0.2 * edge, right=1 - 0.05 * edge, bottom=0.06, top=0.92, wspace=0.13)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, panel in zip(axes, panels, strict=True):
        _draw(axis, panel, data)
        axis.set_title(panel.title, color=INK, fontsize=12, pad=8)
    return figure


def curve_figure(sw2: Curve, ipm: Curve, floor: Mapping[str, Any]) -> Figure:
    """SW2 in 1e-2 data units (logarithmic) with the floor and its interval, above the critic's IPM estimate."""
    figure = Figure(figsize=(7.6, 6.2), dpi=120, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])
    _draw_sw2(upper, sw2, floor)
    lower.plot(np.divide(ipm.steps, 1e6), ipm.values, color=BEFORE, lw=1.4)
    lower.axhline(0.0, color=DATA, lw=1.2, ls="--")
    lower.set_ylabel("critic's IPM estimate")
    lower.set_xlabel("environment steps (millions)")
    for axis in (upper, lower):
        axis.grid(alpha=0.25, lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _draw_sw2(axis: Axes, sw2: Curve, floor: Mapping[str, Any]) -> None:
    values = np.multiply(sw2.values, 100)
    axis.semilogy(np.divide(sw2.steps, 1e6), values, color=AFTER, lw=2, marker="o", ms=4, label="sampler")
    axis.axhline(100 * floor["sw2_mean"], color=DATA, lw=1.2, ls="--", label="floor: fresh data against fresh data")
    if floor["sw2_low"] is not None:
        # The interval of few seeds may reach below zero, for which a logarithmic axis has no place.
        low = max(100 * floor["sw2_low"], 0.7 * min(100 * floor["sw2_mean"], values.min()))
        axis.axhspan(low, 100 * floor["sw2_high"], color=PALE, alpha=0.6, lw=0, zorder=0, label="its 95 % interval")
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    axis.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("sliced Wasserstein-2 x 1e-2")
    axis.legend(frameon=False)


def pixels(figure: Figure) -> NDArray[np.uint8]:
    """The figure as an image (H, W, 3)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save(figure: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically. CheckpointError where it cannot be written."""
    content = io.BytesIO()
    FigureCanvasAgg(figure).print_png(content)
    write_atomically(path, content.getvalue())


def _draw(axis: Axes, panel: Panel, data: Points) -> None:
    if is_image(panel.points.shape[1:]):
        _draw_images(axis, panel.points, data)
        return
    flat = panel._replace(points=panel.points.reshape(len(panel.points), -1))
    draw = _draw_histogram if flat.points.shape[1] == 1 else _draw_points
    draw(axis, flat, data.reshape(len(data), -1))


def _draw_points(axis: Axes, panel: Panel, data: Points) -> None:
    low, high = data[:, :2].min(axis=0), data[:, :2].max(axis=0)
    margin = MARGIN * (high - low).max()
    axis.scatter(data[:, 0], data[:, 1], s=3, color=PALE, lw=0, rasterized=True)
    axis.scatter(panel.points[:, 0], panel.points[:, 1], s=2, color=panel.colour, alpha=0.55, lw=0, rasterized=True)
    axis.set(xlim=(low[0] - margin, high[0] + margin), ylim=(low[1] - margin, high[1] + margin), aspect="equal")
    axis.tick_params(colors="#777777", labelsize=8)
    for spine in axis.spines.values():
        spine.set_color(PALE)


def _draw_histogram(axis: Axes, panel: Panel, data: Points) -> None:
    bins = np.linspace(data.min(), data.max(), 80).tolist()
    axis.hist(data[:, 0], bins, color=PALE, density=True)
    axis.hist(panel.points[:, 0], bins, color=panel.colour, density=True, histtype="step", lw=1.5)


def _draw_images(axis: Axes, images: Points, data: Points) -> None:
    low, high = float(data.min()), float(data.max())
    axis.imshow(image_grid(((images[:MAX_IMAGES] - low) / (high - low)).clip(0, 1)), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
