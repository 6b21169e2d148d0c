"""Pictures of the particles: points over the data's density, or images in a grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffusion_env.data.dataset import Dataset
from diffusion_env.process import DenoisingProcess

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Frame = NDArray[np.uint8]  # (H, W, 3)
Floats = NDArray[np.floating]

INCHES, DPI = 4.0, 100
AXES = (0.13, 0.07, 0.85, 0.85)  # left, bottom, width, height, as shares of the picture; the rest is for labels
MAX_POINTS = 2_000  # more particles would hide the data behind them
MAX_IMAGES = 64
DENSITY_POINTS, DENSITY_CELLS = 200_000, 160
VIEW_RADIUS = 3.0  # network units: 99.7 % of the coordinates of x[0] ~ N(0, I) are within it
PARTICLE_COLOR = "#d1495b"


class Backdrop(NamedTuple):
    """The data behind the points."""

    density: Floats  # (cells, cells) in [0, 1], rows upwards
    extent: tuple[float, float, float, float]  # left, right, bottom, top, data units


_backdrops: WeakKeyDictionary[Dataset, Backdrop] = WeakKeyDictionary()


def render_particles(process: DenoisingProcess) -> Frame:
    """The current particles as a picture (400, 400, 3) uint8, titled with k / K.

    Events of shape (H, W) or (C, H, W) with C = 1, 3 or 4 are images: the first 64 are drawn in a grid. All others
    are points: the first 2,000 are drawn over the density of the data, by their first two coordinates in data units.
    A single point is drawn with its path so far.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure((INCHES, INCHES), DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes(AXES)
    if is_image(process.shape):
        _draw_images(axes, process)
    else:
        _draw_points(axes, process)
    axes.set_title(f"{process.dataset.name}, step {steps_shown(process)} / {process.table.num_steps}")
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether events of ``shape`` are drawn as images: (H, W), or (C, H, W) with C = 1, 3 or 4."""
    return len(shape) == 2 or (len(shape) == 3 and shape[0] in (1, 3, 4))


def steps_shown(process: DenoisingProcess) -> str:
    """k as the title shows it: one number, or "lowest ... highest" where the particles differ."""
    low, high = int(process.k.min()), int(process.k.max())
    return str(low) if low == high else f"{low} ... {high}"


def _draw_points(axes: Axes, process: DenoisingProcess) -> None:
    behind = backdrop(process.dataset)
    axes.imshow(behind.density, "Blues", vmax=1.4, extent=behind.extent, origin="lower", aspect="auto")
    if process.num_envs == 1:
        x, y = _plane(process.dataset, process.path).T
        axes.plot(x, y, color=PARTICLE_COLOR, linewidth=1, marker=".", markersize=5)
        axes.scatter(x[-1:], y[-1:], color=PARTICLE_COLOR, s=40)
    else:
        x, y = _plane(process.dataset, process.x[:MAX_POINTS]).T
        axes.scatter(x, y, color=PARTICLE_COLOR, s=5, alpha=0.7, linewidths=0)
    axes.set(xlim=behind.extent[:2], ylim=behind.extent[2:])


def _plane(dataset: Dataset, x: Tensor) -> Floats:
    """The first two coordinates of events (n, *shape), in data units, (n, 2); 0 for a second one that is missing."""
    flat = dataset.to_data(x).flatten(1)[:, :2].numpy(force=True)
    return np.pad(flat, [(0, 0), (0, 2 - flat.shape[1])])


def backdrop(dataset: Dataset) -> Backdrop:
    """The histogram of the data; computed once per data set."""
    if dataset not in _backdrops:
        points = _plane(dataset, dataset.train[:DENSITY_POINTS])
        (left, right), (bottom, top) = _view(dataset, points)
        x, y = points.T
        counts, _, _ = np.histogram2d(x, y, DENSITY_CELLS, [(left, right), (bottom, top)])
        # 1 is the density that one cell in a hundred exceeds, not the peak. The square root makes thin regions visible.
        density = np.sqrt(counts.T / np.quantile(counts[counts > 0], 0.99)).clip(0, 1)
        _backdrops[dataset] = Backdrop(density, (left, right, bottom, top))
    return _backdrops[dataset]


def _view(dataset: Dataset, points: Floats) -> list[tuple[float, float]]:
    """The range (low, high) of each coordinate that shows all ``points`` (n, 2) and most starts x[0]."""
    start = torch.tensor([-VIEW_RADIUS, VIEW_RADIUS]).reshape(2, *[1] * len(dataset.shape)).expand(2, *dataset.shape)
    shown = np.concatenate([points, _plane(dataset, start)])
    spans = zip(shown.min(0).tolist(), shown.max(0).tolist(), strict=True)
    return [(low, high) if low < high else (low - 1, high + 1) for low, high in spans]


def _draw_images(axes: Axes, process: DenoisingProcess) -> None:
    data = process.dataset.train[:MAX_IMAGES]
    low, high = float(data.min()), float(data.max())
    images = ((process.x[:MAX_IMAGES] - low) / max(high - low, 1e-6)).clamp(0, 1)
    axes.imshow(image_grid(images.numpy(force=True)), cmap="gray", vmin=0, vmax=1)
    axes.set_axis_off()


def image_grid(images: Floats) -> Floats:
    """Images (n, H, W) or (n, C, H, W) in [0, 1] side by side in a near-square grid, (rows H, columns W) or
    (rows H, columns W, 3); white lines lie between them and empty cells are white."""
    if images.ndim == 4:
        images = images[:, 0] if images.shape[1] == 1 else images[:, :3].transpose(0, 2, 3, 1)
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    color = [(0, 0)] * (images.ndim - 3)
    framed = np.pad(images, [(0, rows * columns - len(images)), (0, 1), (0, 1), *color], constant_values=1.0)
    cells = framed.reshape(rows, columns, *framed.shape[1:]).swapaxes(1, 2)
    return cells.reshape(rows * framed.shape[1], columns * framed.shape[2], *framed.shape[3:])
