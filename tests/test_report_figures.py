"""The scaling figure, and what all figures share: readable axes, lines told apart, files written whole."""

from __future__ import annotations

import subprocess
import sys

import matplotlib
import matplotlib.image
import pytest
from figure_helpers import (
    RESULTS,
    assert_readable,
    changed_point,
    drawn_sweep,
    four_arms,
    legend_names,
    legends_of,
    read,
    texts_of,
    titled,
    with_contexts,
    xy,
)
from marks import one_quick
from report_helpers import (
    DEFAULT_LINES,
    LAWS,
    OWN_ARM,
    LineSpec,
    every_arm,
    nine_lines,
    our_arms,
    write_sweep,
)

from cvfp.records.arms import ARMS
from cvfp.records.plan import Analysis
from cvfp.report.figures.analysis import analysis_figure
from cvfp.report.figures.answer import ppl_figure, ratio_figure
from cvfp.report.figures.axes import decimals, linear_ticks, log_ticks, with_intervals
from cvfp.report.figures.forecasts import forecast_figure
from cvfp.report.figures.phase1 import phase1_figure
from cvfp.report.figures.progression import progression_figure
from cvfp.report.figures.scaling import scaling_figure
from cvfp.report.figures.style import HALF, LOOKS, WIDTH, save, short_label, style_of, styles_of
from cvfp.report.figures.training import compute_figure, learning_figure
from cvfp.report.view import View

FIGURES = {
    "ppl": (HALF, lambda view: ppl_figure(view.lines)),
    "ratio": (HALF, lambda view: view.reference and ratio_figure(view.reference, view.changes, view.lines)),
    "scaling": (WIDTH, lambda view: scaling_figure(view.lines)),
    "contexts": (WIDTH, lambda view: analysis_figure(view.lines)),
    "windows": (WIDTH, lambda view: progression_figure(view.lines)),
    "forecasts": (WIDTH, lambda view: forecast_figure(view.lines)),
    "phase 1": (WIDTH, lambda view: phase1_figure(view.sweep, view.lines)),
    "learning": (HALF, lambda view: learning_figure(view.sweep, view.lines)),
    "compute": (HALF, lambda view: compute_figure(view.lines)),
}
"""Width in inches, and how it is drawn."""


def figure_of(directory, **settings):
    return scaling_figure(read(write_sweep(directory, **settings))[1])


def capped_at_50(run):
    return run if run.point.num_samples > 50 else changed_point(run, stop_reason="cap")


@pytest.mark.parametrize("low", [1.0, 42.0, 7e4])
@pytest.mark.parametrize("ratio", [1.02, 1.5, 4.0, 30.0, 1e3, 1e7, 1e12])
def test_axes_have_a_few_round_ticks_whatever_their_range(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert 3 <= len(ticks) <= 9
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert ticks == sorted(set(ticks))


@pytest.mark.parametrize("low", [1.0, 42.0, 7e4])
@pytest.mark.parametrize("ratio", [1.1, 1.5, 4.0, 30.0, 1e3, 1e7])
def test_narrow_axes_have_two_or_three_ticks(low, ratio):
    assert 1 <= len(log_ticks(low, low * ratio, fewest=2, most=3)) <= 4


@pytest.mark.parametrize("span", [1e-4, 0.02, 0.3, 7.0, 4e3])
def test_ticks_are_written_as_different_numbers_that_say_what_they_are(span):
    ticks = linear_ticks(-0.4, -0.4 + span)
    written = [decimals(ticks)(tick) for tick in ticks]
    assert len(set(written)) == len(ticks)
    assert [float(text.replace("−", "-")) for text in written] == pytest.approx(ticks, abs=1e-9)


def test_an_interval_far_outside_does_not_squeeze_the_rest():
    shown = with_intervals([-0.5, -0.4], [(-20.0, 19.0), (-0.45, -0.35), None])
    assert min(shown) > -1.1 and max(shown) < 0.3
    assert {-0.5, -0.4, -0.45, -0.35} <= set(shown)


def test_lines_are_told_apart_without_colour():
    styles = [style_of(index) for index in range(41)]
    assert len({(style.marker, str(style.dashes)) for style in styles}) == 41


@pytest.mark.parametrize("arms", [ARMS, ARMS[:3], ARMS[::-1]])
@pytest.mark.parametrize("configs", [1, 3, 9])
def test_arms_look_the_same_in_every_report(tmp_path, arms, configs):
    specs = [LineSpec(arm, f"{arm} line") for arm in arms if arm != "cvfp"]
    specs += [LineSpec("cvfp", f"line {index}", {"phase1.lr": 0.1 + index}) for index in range(configs)]
    _sweep, lines = read(write_sweep(tmp_path, lines=specs))
    styles = styles_of(lines)
    first = {line.arm: styles[line.label] for line in reversed(lines)}
    assert all((one.color, one.marker, one.dashes) == LOOKS[arm] for arm, one in first.items())
    assert len({style.marker for style in styles.values()}) == len(lines)
    assert len({style.color for style in styles.values()}) >= min(len(lines), 8)


@pytest.mark.parametrize("own", ["blend", "a", "zz"])
def test_an_arm_of_the_users_has_a_look_that_none_of_ours_has(tmp_path, own):
    specs = [*every_arm()[:-1], LineSpec(own, "768d", OWN_ARM, LAWS["blend"])]
    styles = styles_of(read(write_sweep(tmp_path, lines=specs))[1])
    assert len({style.color for style in styles.values()}) == len(specs)
    assert len({style.marker for style in styles.values()}) == len(specs)


def test_arms_of_ours_that_have_one_line_each_share_a_panel(tmp_path):
    _sweep, lines = read(write_sweep(tmp_path, lines=our_arms(), sizes=(50, 100, 200, 400, 800)))
    axes = scaling_figure(lines).axes[0]
    laws = [drawn for drawn in axes.lines if drawn.get_marker() == "None" and drawn.get_linestyle() != ":"]
    assert len(laws) == len(lines) == len(ARMS)
    assert len(axes.collections) == sum(line.extrapolates for line in lines) > 0


@pytest.mark.parametrize("order", [1, -1])
def test_both_trainings_of_the_model_keep_their_looks_where_every_arm_has_a_panel(tmp_path, order):
    joint = [
        LineSpec("cvfp-joint", f"1L_{width}d_1tok", {"joint.context_dim": width}) for width in (1024, 768)
    ]
    specs = [*four_arms(3), *joint][::order]
    _sweep, lines = read(write_sweep(tmp_path, lines=specs))
    styles = styles_of(lines)
    for arm in ("cvfp", "cvfp-joint"):
        first = styles[next(line.label for line in lines if line.arm == arm)]
        assert (first.color, first.marker, first.dashes) == LOOKS[arm]


def test_long_names_are_cut_in_the_middle():
    assert short_label("cvfp 1L_768d_1tok") == "cvfp 1L_768d_1tok"
    cut = short_label("cvfp 1L_768d_1tok source=/some/long/path/to/a/table.safetensors")
    assert len(cut) <= 43 and cut.startswith("cvfp 1L_768d") and cut.endswith("safetensors")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(DEFAULT_LINES[:1], id="one"),
        pytest.param(DEFAULT_LINES, id="four", marks=pytest.mark.long),
        pytest.param(nine_lines(), id="nine"),
        pytest.param(four_arms(1), id="1x4", marks=pytest.mark.long),
        pytest.param(four_arms(3), id="3x4", marks=pytest.mark.long),
        pytest.param(four_arms(9), id="9x4", marks=pytest.mark.long),
        pytest.param(our_arms(), id="ours", marks=pytest.mark.long),
        pytest.param(every_arm(), id="every", marks=pytest.mark.long),
    ],
)
def test_no_labels_touch(tmp_path, lines):
    figure = figure_of(tmp_path, lines=lines, seeds=(42, 43), change=with_contexts)
    assert_readable(figure)
    assert 5 < figure.get_figheight() < 15


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_no_labels_touch_in_real_sweeps(version):
    assert_readable(scaling_figure(read(RESULTS / version)[1]))


@pytest.mark.parametrize("lines", [DEFAULT_LINES[:1], DEFAULT_LINES])
def test_the_legend_stands_beside_the_panel_and_leaves_it_most_of_the_width(tmp_path, lines):
    figure = figure_of(tmp_path, lines=lines)
    figure.canvas.draw()
    (legend,), inside = legends_of(figure), figure.axes[0].get_window_extent()
    assert len(legend.get_texts()) == len(lines)
    assert legend.get_window_extent().x0 >= inside.x1
    assert inside.width > 0.5 * figure.bbox.width


@pytest.mark.parametrize("lines", [DEFAULT_LINES, four_arms(9)], ids=["one panel", "panels"])
def test_every_scored_point_is_drawn_within_its_panel(tmp_path, lines):
    _sweep, found = read(write_sweep(tmp_path, lines=lines, seeds=(42, 43), change=capped_at_50))
    figure = scaling_figure(found)
    for line in found:
        axes = titled(figure, line.arm) if len(lines) > 7 else figure.axes[0]
        across, up = axes.get_xlim(), axes.get_ylim()
        shown = {place for drawn in axes.lines if drawn.get_marker() != "None" for place in xy(drawn)}
        for point in line.scored:
            assert (point.train_tokens, point.val_ppl) in shown
            assert across[0] < point.train_tokens < across[1]
            assert up[0] < point.val_ppl < up[1]


def test_excluded_points_are_hollow(tmp_path):
    axes = figure_of(tmp_path, lines=DEFAULT_LINES[:1], change=capped_at_50).axes[0]
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [list(line.get_xdata()) for line in hollow] == [[60_000]]


def test_fits_are_dotted_beyond_the_data_to_ten_times_the_largest_size(tmp_path):
    axes = figure_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100, 200, 400, 800)).axes[0]
    (dotted,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert (dotted.get_xdata()[0], dotted.get_xdata()[-1]) == pytest.approx((960_000, 9_600_000))
    assert len(axes.collections) == 1


@pytest.mark.long
def test_every_line_of_28_has_its_law_and_band_in_the_panel_of_its_arm(tmp_path):
    _sweep, lines = read(write_sweep(tmp_path, lines=four_arms(9), seeds=(42, 43)))
    figure = scaling_figure(lines)
    for arm, count in (("cvfp", 9), ("kneser-ney", 1), ("no-context", 9), ("random-context", 9)):
        axes = titled(figure, arm)
        own = [line for line in lines if line.arm == arm]
        assert len(own) == count and sum(line.law is not None for line in own) == count
        going_on = sum(line.extrapolates for line in own)
        assert sum(line.get_linestyle() == ":" for line in axes.lines) == len(axes.collections) == going_on
        inside = [drawn for drawn in axes.lines if drawn.get_marker() == "None"]
        assert len(inside) == count + going_on
    assert len({axes.get_xlim() + axes.get_ylim() for axes in figure.axes[:4]}) == 1


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_no_band_is_cut_off(version):
    lines = read(RESULTS / version)[1]
    axes = scaling_figure(lines).axes[0]
    low, high = axes.get_ylim()
    assert len(axes.collections) == sum(line.extrapolates for line in lines)
    ends = [ppl for band in axes.collections for ppl in band.get_paths()[0].vertices[:, 1]]
    assert all(low < end < high for end in ends)


def test_a_band_far_wider_than_the_rest_is_cut_off(tmp_path):
    def apart(run):
        return changed_point(run, val_ppl=run.point.val_ppl * (2 if run.point.num_samples == 100 else 1))

    figure = figure_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100, 200, 400, 800), change=apart)
    (band,) = figure.axes[0].collections
    low, high = figure.axes[0].get_ylim()
    assert band.get_paths()[0].vertices[:, 1].min() < low / 2 and high / low < 200


def test_two_sizes_have_a_line_but_nothing_beyond_them(tmp_path):
    axes = figure_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100)).axes[0]
    assert len(axes.collections) == 0
    assert not any(line.get_linestyle() == ":" for line in axes.lines)


def test_a_single_size_is_drawn_without_a_line_and_without_exponents(tmp_path):
    figure = figure_of(tmp_path, sizes=(50,))
    assert not any(line.get_linestyle() == ":" for line in figure.axes[0].lines)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes[1:]] == [
        "test PPL",
        "train PPL",
        "accuracy, %",
    ]
    assert_readable(figure)


def test_lines_of_a_panel_differ_in_marker_and_dashes(tmp_path):
    _sweep, lines = read(write_sweep(tmp_path, lines=four_arms(9)))
    styles = styles_of(lines)
    for arm in {line.arm for line in lines}:
        own = [styles[line.label] for line in lines if line.arm == arm]
        assert len({(style.marker, str(style.dashes)) for style in own}) == len(own)


def test_a_config_has_one_style_in_all_panels_and_one_entry_in_the_legend(tmp_path):
    _sweep, lines = read(write_sweep(tmp_path, lines=four_arms(9)))
    styles, by_name = styles_of(lines), {(line.arm, line.config_name): line.label for line in lines}
    for layers, tokens in ((1, 1), (2, 3)):
        trained, untrained, without = (
            styles[by_name[arm, f"{layers}L_{width}d_{tokens}tok"]]
            for arm, width in (("cvfp", 768), ("random-context", 768), ("no-context", 0))
        )
        assert trained == untrained == without
    names = legend_names(scaling_figure(lines))
    assert len(names) == 10 and names[0] == "1L_768d_1tok / 0d" and "kneser-ney" in names


def test_the_forest_shows_the_values_of_every_line_at_the_largest_common_size(tmp_path):
    def without_the_last(run):
        """kneser-ney has not run at 400 documents."""
        return None if (run.point.arm, run.point.num_samples) == ("kneser-ney", 400) else run

    _sweep, lines = read(write_sweep(tmp_path, seeds=(42, 43), change=without_the_last))
    figure = scaling_figure(lines)
    ppl, alpha = titled(figure, "test PPL"), titled(figure, "α")
    assert ppl.get_title() == "test PPL\nat 200 documents"
    for row, line in enumerate(lines):
        at_200 = [point.val_ppl for point in line.points if point.num_samples == 200]
        shown = {x for drawn in ppl.lines for x, y in xy(drawn) if y == row}
        mean = (at_200[0] * at_200[1]) ** 0.5
        assert {*at_200} <= shown and any(x == pytest.approx(mean) for x in shown)
        exponents = {x for drawn in alpha.lines for x, y in xy(drawn) if y == row}
        assert {line.summary.alpha, *line.summary.alpha_ci95} <= exponents


def test_lines_without_a_common_size_have_no_columns_of_results(tmp_path):
    def apart(run):
        return run if (run.point.arm == "cvfp") == (run.point.num_samples <= 100) else None

    figure = figure_of(tmp_path, change=apart)
    assert [axes.get_title() for axes in figure.axes[1:]] == ["α", "A"]
    assert_readable(figure)


@pytest.mark.filterwarnings("error")
def test_equal_results_are_drawn_without_complaint(tmp_path):
    def equal(run):
        return changed_point(run, val_ppl=100.0, train_ppl=50.0, val_acc=0.2)

    assert_readable(figure_of(tmp_path, sizes=(50,), change=equal))


def test_names_are_shown_as_they_are(tmp_path):
    name = r"$x_1^2$ \frac{a}{b} 100% {0}"
    figure = figure_of(
        tmp_path, lines=[LineSpec("cvfp", name), LineSpec("cvfp", "other", {"phase1.lr": 1.0})]
    )
    figure.canvas.draw()
    shown = [text for text in texts_of(figure) if text.get_text() == name]
    assert len(shown) == 2 and not any(text.get_parse_math() for text in texts_of(figure))


@pytest.mark.parametrize("name", one_quick(*FIGURES))
def test_files_are_the_same_bytes_whatever_the_users_settings(tmp_path, name):
    width, draw = FIGURES[name]
    view = View(*drawn_sweep(tmp_path, four_arms(1), seeds=(42, 43), analysis=Analysis(window_size=3)), "")
    assert save(draw(view), tmp_path / "one.png")
    with matplotlib.rc_context({"font.size": 20, "axes.grid": False, "savefig.bbox": "tight"}):
        assert save(draw(view), tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    pixels = matplotlib.image.imread(tmp_path / "one.png")
    assert pixels.shape[1] == round(150 * width) and (pixels[0, 0, :3] == 1).all()
    assert len({tuple(pixel) for pixel in pixels.reshape(-1, pixels.shape[2])[::7]}) > 50


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_to_show_writes_nothing(tmp_path, name):
    def failed(run):
        return changed_point(run, status="failed", val_ppl=None, val_er=None, phase1_iter=None)

    sweep, lines = read(write_sweep(tmp_path, change=failed))
    _width, draw = FIGURES[name]
    for shown in (lines, []):
        assert save(draw(View(sweep, shown, "")), tmp_path / "none.png") is False
    assert list(tmp_path.glob("*none.png*")) == []


def test_the_figures_need_neither_pyplot_nor_torch():
    modules = ("answer", "scaling", "analysis", "progression", "phase1", "training", "forecasts", "versions")
    code = "import sys\n" + "".join(f"import cvfp.report.figures.{name}\n" for name in modules)
    code += "print([name for name in ('matplotlib.pyplot', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
