"""The scaling figure: readable axes, distinct lines, nothing that is not there."""

from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest
from report_helpers import DEFAULT_LINES, nine_lines, write_sweep

from cvfp.records.sweep import load_sweep
from cvfp.report.axes import log_ticks
from cvfp.report.figure import scaling_figure, short_label, style_of
from cvfp.report.lines import report_lines


@pytest.mark.parametrize("low", [1.0, 42.0, 7e4])
@pytest.mark.parametrize("ratio", [1.02, 1.5, 4.0, 30.0, 1e3, 1e7, 1e12])
def test_axes_have_a_few_round_ticks_whatever_their_range(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert ticks == sorted(set(ticks))


def test_lines_are_told_apart_without_colour():
    styles = [style_of(index) for index in range(55)]
    assert len({(style.marker, str(style.dashes)) for style in styles}) == 55


def figure_of(directory, **settings):
    return scaling_figure(report_lines(load_sweep(write_sweep(directory, **settings))))


def drawn(figure):
    """What a canvas of the figure shows: the pixels."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


@pytest.mark.parametrize("lines", [DEFAULT_LINES[:1], DEFAULT_LINES, nine_lines()])
def test_labels_overlap_neither_each_other_nor_the_data(tmp_path, lines):
    figure = figure_of(tmp_path, lines=lines)
    drawn(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    assert len(legend.get_texts()) == len(lines)
    frame = figure.bbox
    inside = axes.get_window_extent()
    assert legend.get_window_extent().x0 >= inside.x1
    assert legend.get_window_extent().x1 <= frame.x1 and legend.get_window_extent().y0 >= 0
    assert inside.width > 0.5 * frame.width
    for axis in (axes.xaxis, axes.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        assert len(boxes) >= 3
        for one, other in pairwise(boxes):
            assert not one.overlaps(other)


def test_excluded_points_are_hollow(tmp_path):
    def change(run):
        if run.point.num_samples > 50:
            return run
        return run.model_copy(update={"point": run.point.model_copy(update={"stop_reason": "cap"})})

    (axes,) = figure_of(tmp_path, lines=DEFAULT_LINES[:1], change=change).axes
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [list(line.get_xdata()) for line in hollow] == [[60_000]]


def test_fits_are_dotted_beyond_the_data_to_ten_times_the_largest_size(tmp_path):
    (axes,) = figure_of(tmp_path, lines=DEFAULT_LINES[:1]).axes
    (dotted,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert (dotted.get_xdata()[0], dotted.get_xdata()[-1]) == pytest.approx((480_000, 4_800_000))
    assert len(axes.collections) == 1


def test_two_sizes_have_a_line_but_no_band(tmp_path):
    (axes,) = figure_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100)).axes
    assert len(axes.collections) == 0
    assert any(line.get_linestyle() == ":" for line in axes.lines)


def test_a_single_size_is_drawn_without_a_line(tmp_path):
    (axes,) = figure_of(tmp_path, sizes=(50,)).axes
    assert not any(line.get_linestyle() == ":" for line in axes.lines)


def test_the_figure_is_deterministic_and_in_colour_on_white(tmp_path):
    first = drawn(figure_of(tmp_path / "one"))
    assert np.array_equal(first, drawn(figure_of(tmp_path / "two")))
    assert (first[0, 0] == 255).all()
    assert len(np.unique(first.reshape(-1, 4), axis=0)) > 50


def test_the_file_is_a_png_of_the_size_asked_for(tmp_path):
    from cvfp.report.write import write_report

    write_report(write_sweep(tmp_path))
    assert matplotlib.image.imread(tmp_path / "figures" / "context_dim_scaling.png").shape[:2] == (810, 1425)


def test_long_names_are_cut_in_the_middle():
    assert short_label("cvfp 1L_768d_1tok") == "cvfp 1L_768d_1tok"
    cut = short_label("cvfp 1L_768d_1tok source=/some/long/path/to/a/table.safetensors")
    assert len(cut) <= 35 and cut.startswith("cvfp 1L_768d") and cut.endswith("safetensors")
