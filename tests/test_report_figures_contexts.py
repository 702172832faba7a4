"""The figures of contexts (ranks, dimensions, parameters) and of the exponents of windows."""

from __future__ import annotations

import itertools
import math

import pytest
from figure_helpers import (
    RESULTS,
    assert_readable,
    changed_point,
    drawn_sweep,
    four_arms,
    legend_names,
    read,
    texts_of,
    titled,
    xy,
)
from marks import one_quick
from report_helpers import DEFAULT_LINES, LineSpec, nine_lines

from cvfp.records.plan import Analysis
from cvfp.report.changes import changes_within_arms
from cvfp.report.figures.analysis import analysis_figure, dodged, spread
from cvfp.report.figures.progression import progression_figure

WINDOWS = Analysis(window_size=3)
SIX_SIZES = (50, 100, 200, 400, 800, 1600)


def analysis_of(directory, lines, **settings):
    return analysis_figure(drawn_sweep(directory, lines, **settings)[1])


@pytest.mark.parametrize("lines", one_quick(nine_lines(), four_arms(1), four_arms(3), four_arms(9)))
def test_no_labels_touch_in_the_analysis(tmp_path, lines):
    assert_readable(analysis_of(tmp_path, lines, seeds=(42, 43)))


@pytest.mark.parametrize("version", one_quick("v3", "v1", "v2"))
def test_no_labels_touch_in_the_analysis_of_real_sweeps(version):
    assert_readable(analysis_figure(read(RESULTS / version)[1]))


def test_ranks_are_drawn_at_every_size_and_seed(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, nine_lines(), seeds=(42, 43))
    shown = {
        place for drawn in titled(analysis_figure(lines), "effective rank of").lines for place in xy(drawn)
    }
    expected = {
        (p.train_tokens, 100 * p.val_er) for line in lines for p in line.points if p.val_er is not None
    }
    assert len(expected) > 20 and expected <= shown


def test_dimensions_lie_under_the_line_on_which_all_would_be_used(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, nine_lines())
    axes = titled(analysis_figure(lines), "effective rank × width")
    (diagonal,) = [drawn for drawn in axes.lines if drawn.get_linestyle() == ":"]
    assert all(x == y for x, y in xy(diagonal))
    marks = {place for drawn in axes.lines if drawn is not diagonal for place in xy(drawn)}
    assert {x for x, _y in marks} == {768, 1200, 1537} and all(y < x for x, y in marks)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["768", "1200", "1537"]


def test_changes_are_those_at_equal_tokens_with_their_intervals(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, nine_lines(), seeds=(42, 43))
    axes = titled(analysis_figure(lines), "change of test PPL, 400 documents")
    shown = [y for drawn in axes.lines for _x, y in xy(drawn)]
    changes = [change for change in changes_within_arms(lines) if change.other.summary.context_dim]
    assert len(changes) == 4
    for change in changes:
        assert {change.ppl.value, *change.ppl.interval} <= set(shown)
    assert any({y for _x, y in xy(drawn)} == {0} for drawn in axes.lines)


def test_a_single_width_leaves_out_what_it_cannot_say(tmp_path):
    titles = [axes.get_title() for axes in analysis_of(tmp_path, DEFAULT_LINES).axes]
    assert titles == ["effective rank of the test contexts", "test PPL at 400 documents"]


def test_a_line_alone_stands_beside_nothing(tmp_path):
    titles = [axes.get_title() for axes in analysis_of(tmp_path, DEFAULT_LINES[:1]).axes]
    assert titles == ["effective rank of the test contexts"]


def test_sizes_that_were_not_run_by_all_are_not_compared(tmp_path):
    def apart(run):
        return run if (run.point.arm == "cvfp") == (run.point.num_samples <= 100) else None

    titles = [axes.get_title() for axes in analysis_of(tmp_path, DEFAULT_LINES, change=apart).axes]
    assert titles == ["effective rank of the test contexts"]


def test_arms_without_contexts_are_labelled_lines_and_far_ones_only_names(tmp_path):
    lines = [*DEFAULT_LINES, LineSpec("unigram", "unigram")]
    _sweep, found = drawn_sweep(tmp_path, lines)
    figure = analysis_figure(found)
    axes = titled(figure, "test PPL at")
    levels = sorted(xy(drawn)[0][1] for drawn in axes.lines if drawn.get_marker() == "None")
    at_400 = {line.arm: line.points[-1].val_ppl for line in found}
    assert levels == pytest.approx([at_400["kneser-ney"], at_400["no-context"]])
    assert axes.get_ylim()[1] < at_400["unigram"]
    names = {text.get_text() for text in texts_of(figure)}
    assert {"no-context", "kneser-ney", f"unigram {at_400['unigram']:.0f} ↑"} <= names
    assert_readable(figure)


@pytest.mark.parametrize("A", [5_000.0, 9_000.0, 20_000.0])
def test_names_of_equal_perplexities_do_not_touch(tmp_path, A):
    equal = [LineSpec(arm, arm, law=(-0.3, A)) for arm in ("no-context", "kneser-ney", "unigram")]
    figure = analysis_of(tmp_path, [DEFAULT_LINES[0], *equal])
    assert_readable(figure)
    names = [text.get_text().split()[0] for text in texts_of(figure)]
    assert {"no-context", "kneser-ney", "unigram"} <= set(names)


def test_sweeps_without_contexts_have_no_analysis(tmp_path):
    assert analysis_of(tmp_path, DEFAULT_LINES[1:3]) is None


def test_two_arms_with_one_style_are_told_apart_by_half_a_marker(tmp_path):
    figure = analysis_of(tmp_path, four_arms(9))
    axes = titled(figure, "effective rank of")
    drawn = [(line.get_marker(), str(line.get_color()), line.get_fillstyle()) for line in axes.lines]
    assert len(drawn) == 18 and len(set(drawn)) == 18
    assert legend_names(figure)[-2:] == ["cvfp", "random-context"]


@pytest.mark.parametrize("values", [[0.5], [0.5, 0.5, 0.5], [0.01, 0.0, 0.02], [0.99, 1.0, 0.2, 3.0], []])
def test_spread_labels_keep_their_order_and_their_distance(values):
    moved = spread(values, 0.1)
    order = sorted(range(len(values)), key=lambda index: values[index])
    gaps = [moved[b] - moved[a] for a, b in itertools.pairwise(order)]
    assert all(gap > 0.1 - 1e-9 for gap in gaps)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in moved)


def test_equal_values_are_moved_apart_and_others_stay():
    moved = dodged([2.0, 1.0, 2.0], (0.5, 8.0))
    assert moved[1] == 1.0
    assert moved[0] < 2 < moved[2] and math.sqrt(moved[0] * moved[2]) == pytest.approx(2)


@pytest.mark.parametrize("configs", one_quick(9, 1, 3))
def test_no_labels_touch_in_the_progression(tmp_path, configs):
    _sweep, lines = drawn_sweep(
        tmp_path, four_arms(configs), sizes=SIX_SIZES, seeds=(42, 43), analysis=WINDOWS
    )
    assert_readable(progression_figure(lines))


def test_the_progression_of_a_real_sweep_is_readable():
    assert_readable(progression_figure(read(RESULTS / "v3")[1]))


def test_windows_show_exponent_and_interval_at_their_sizes(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, sizes=SIX_SIZES, analysis=WINDOWS)
    (axes,) = progression_figure(lines).axes
    shown = [xy(drawn) for drawn in axes.lines]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["50–200", "100–400", "200–800", "400–1.6k"]
    for line in lines:
        assert len(line.progression.windows) == 4
        for place, window in enumerate(line.progression.windows):
            (interval,) = [places for places in shown if [y for _x, y in places] == [*window.alpha_ci95]]
            # Marks are moved sideways only, and stay nearer to their window than to another.
            assert interval[0][0] == interval[1][0] and abs(interval[0][0] - place) < 0.25
            assert (interval[0][0], window.alpha) in [place for places in shown for place in places]


def test_intervals_of_one_window_do_not_hide_each_other(tmp_path):
    _sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, sizes=SIX_SIZES, analysis=WINDOWS)
    (axes,) = progression_figure(lines).axes
    upright = [drawn.get_xdata()[0] for drawn in axes.lines if drawn.get_marker() == "_"]
    assert len(upright) == len(set(upright)) == 16


def test_lines_with_too_few_sizes_for_windows_are_left_out(tmp_path):
    def short(run):
        return None if run.point.arm == "cvfp" and run.point.num_samples > 100 else run

    _sweep, lines = drawn_sweep(tmp_path, DEFAULT_LINES, sizes=SIX_SIZES, analysis=WINDOWS, change=short)
    assert legend_names(progression_figure(lines)) == ["kneser-ney", "no-context", "random-context"]


def test_points_that_do_not_know_their_rank_are_left_out(tmp_path):
    def unknown(run):
        return changed_point(run, val_er=None)

    titles = [axes.get_title() for axes in analysis_of(tmp_path, DEFAULT_LINES, change=unknown).axes]
    assert titles == ["test PPL at 400 documents"]
