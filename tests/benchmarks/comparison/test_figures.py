"""The figures: small pictures, one row of learning curves for each family of entries."""

from dataclasses import replace

import numpy as np

from benchmarks.comparison.figures import curves_figure, save_small, scores_figure


def test_figures_are_small_pictures(write, tiny, results_in, tmp_path):
    results = results_in(write(sft_pg=0.2, ppo=None), tiny)
    for draw in (scores_figure, curves_figure):
        save_small(draw(results), tmp_path / "figure.png")
        picture = (tmp_path / "figure.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) < 150_000


def test_families_have_rows_of_their_own(write, tiny, results_in):
    folder = write(sft_pg=0.2, ppo=0.3)
    sft_pg, ppo = tiny.entries
    for families, shown in ((("a", "a"), [["sft_pg", "ppo"]]), (("a", "b"), [["sft_pg"], ["ppo"]])):
        entries = tuple(replace(e, family=family) for e, family in zip((sft_pg, ppo), families, strict=True))
        figure = curves_figure(results_in(folder, replace(tiny, entries=entries)))
        legends = [legend for axis in figure.axes if (legend := axis.get_legend()) is not None]
        assert [[text.get_text() for text in legend.get_texts()] for legend in legends] == shown


def test_a_marker_of_the_scores_stands_at_the_iqm(write, tiny, results_in):
    figure = scores_figure(results_in(write(sft_pg=0.2), tiny))
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [np.asarray(mark.get_xdata()).tolist() for mark in marks] == [[0.75]]
