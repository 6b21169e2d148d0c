"""Pictures show what they are given, for points and for images."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.lines import Line2D

from agents.runs.figures import AFTER, DATA, Curve, Panel, Points, curve_figure, pixels, samples_figure, save

FLOOR = {"sw2_mean": 0.007, "sw2_low": -0.001, "sw2_high": 0.012}


def drawn(line: Line2D) -> list[list[float]]:
    return np.asarray(line.get_xydata()).round(12).tolist()


def events(*shape: int) -> Points:
    return np.random.default_rng(0).normal(size=(90, *shape)).astype(np.float32)


@pytest.mark.parametrize("shape", [(1,), (2,), (5,), (8, 8), (1, 8, 8), (3, 8, 8), (2, 3, 4, 5)])
def test_events_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    data = events(*shape)
    one = pixels(samples_figure([Panel(data, "data", DATA)], data))
    assert one.ndim == 3 and one.shape[2] == 3 and one.dtype == np.uint8
    two = pixels(samples_figure([Panel(data, "data", DATA), Panel(data, "again", DATA)], data))
    assert two.shape[1] == pytest.approx(2 * one.shape[1], abs=2)
    moved = pixels(samples_figure([Panel(data / np.float32(2), "data", DATA)], data))
    assert (moved != one).any()  # negative control: other samples give another picture


def test_samples_far_away_do_not_change_the_scale() -> None:
    data = events(2)
    figure = samples_figure([Panel(100 + data, "lost", AFTER), Panel(data, "data", DATA)], data)
    lost, found = figure.axes
    assert lost.get_xlim() == found.get_xlim()
    assert lost.get_xlim()[1] < 10


@pytest.mark.parametrize("floor", [FLOOR, {"sw2_mean": 0.007, "sw2_low": None, "sw2_high": None}])
def test_the_curve_holds_the_sampler_the_floor_and_the_critic(floor: dict[str, float | None], tmp_path: Path) -> None:
    figure = curve_figure(Curve([0, 2_000_000], [0.04, 0.01]), Curve([1_000_000], [0.3]), floor)
    upper, lower = figure.axes
    sampler, floor_line = upper.get_lines()
    assert drawn(sampler) == [[0, 4], [2, 1]]
    assert [y for _, y in drawn(floor_line)] == [0.7, 0.7]
    assert drawn(lower.get_lines()[0]) == [[1, 0.3]]
    assert upper.get_ylim()[0] > 0
    save(figure, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
