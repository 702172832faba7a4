"""The charts of the page, read back from their traces: what they show, what they say under the pointer."""

import re
from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest
from report_helpers import DEFAULT_LINES, LineSpec, nine_lines, write_sweep
from test_report_text import HOSTILE, with_point

from cvfp.records.plan import Analysis
from cvfp.records.sweep import load_sweep
from cvfp.report import numbers
from cvfp.report.figures.style import LOOKS, PALETTE, SPARE_MARKERS, styles_of
from cvfp.report.interactive.charts import progression_chart, rank_chart, scaling_chart
from cvfp.report.interactive.look import DARK, SYMBOLS, dark_colors, dash
from cvfp.report.language import speaking
from cvfp.report.lines import Line, report_lines

WINDOWS = Analysis(window_size=3)
FIVE = (50, 100, 200, 400, 800)


def bent_below(run):
    """The n-gram falls at first, and hardly after 100 documents."""
    factor = 3.0 if run.point.arm == "kneser-ney" and run.point.num_samples == 50 else 1.0
    return with_point(run, val_ppl=run.point.val_ppl * factor)


def lines_of(directory, **settings) -> list[Line]:
    return report_lines(load_sweep(write_sweep(directory, **settings)))


def charts_of(lines: list[Line]) -> list[go.Figure | None]:
    return [draw(lines) for draw in (scaling_chart, rank_chart, progression_chart)]


def points(figure: go.Figure) -> dict[tuple[float, float], go.Scatter]:
    """The traces with markers by every place that they show."""
    return {
        (x, y): trace
        for trace in figure.data
        if "markers" in trace.mode and trace.x[0] is not None
        for x, y in zip(trace.x, trace.y, strict=True)
    }


def texts(figure: go.Figure) -> list[str]:
    return [text for trace in figure.data if trace.hovertext is not None for text in trace.hovertext]


def entries(figure: go.Figure) -> list[go.Scatter]:
    """What the legend shows."""
    return [trace for trace in figure.data if trace.showlegend is None]


def test_every_scored_point_is_shown_where_it_lies_with_its_record(tmp_path):
    lines = lines_of(tmp_path, seeds=(1, 2))
    figure = scaling_chart(lines)
    shown = [
        (x, y)
        for trace in figure.data
        if trace.mode == "markers"
        for x, y in zip(trace.x, trace.y, strict=True)
    ]
    assert sorted(shown) == sorted((p.train_tokens, p.val_ppl) for line in lines for p in line.scored)
    for line in lines:
        for point in line.scored:
            trace = points(figure)[point.train_tokens, point.val_ppl]
            text = trace.hovertext[trace.x.index(point.train_tokens)]
            for fact in (f"<b>{line.label}</b>", f"documents: {numbers.count(point.num_samples)}"):
                assert f"{fact}<br>" in text
    point = lines[0].points[0]
    assert (
        texts(figure).count(
            f"<b>cvfp</b><br>documents: 50<br>tokens: 60,000<br>seed: 1<br>test PPL: {point.val_ppl:.1f}<br>"
            f"train PPL: {point.train_ppl:.1f}<br>dev PPL: {point.dev_ppl:.1f}<br>"
            f"test accuracy: {100 * point.val_acc:.1f}%<br>bits per byte: {point.bits_per_byte:.3f}<br>"
            "ER: 79.3%<br>P1 iterations: 23<br>steps: 500<br>stopped by: dev minimum<br>seconds: 12.5"
        )
        == 1
    )


def test_what_an_arm_does_not_have_is_a_dash(tmp_path):
    text = next(text for text in texts(scaling_chart(lines_of(tmp_path))) if "closed form" in text)
    for fact in ("ER: –", "P1 iterations: –", "steps: –", "stopped by: closed form"):
        assert f"<br>{fact}<br>" in text


def test_points_outside_the_fit_are_hollow_and_say_why(tmp_path):
    def change(run):
        small = run.point.arm == "cvfp" and run.point.num_samples == 50
        run = run.model_copy(update={"phase1_converged": False})
        return with_point(run, stop_reason="cap") if small else run

    line = lines_of(tmp_path, lines=DEFAULT_LINES[:1], change=change)[0]
    shown = points(scaling_chart([line]))
    for point in line.scored:
        trace = shown[point.train_tokens, point.val_ppl]
        hollow = point.num_samples == 50
        assert (trace.marker.symbol, len(trace.x)) == (("circle-open", 1) if hollow else ("circle", 3))
        text = trace.hovertext[trace.x.index(point.train_tokens)]
        reason = "stopped by: cap‡<br>seconds: 12.5<br>not in the fit: stopped at its cap"
        assert text.endswith(reason) == hollow
        assert "P1 iterations: ≥ 23<br>" in text


def test_laws_are_dotted_beyond_the_data_to_ten_times_the_largest_size(tmp_path):
    line = lines_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=FIVE)[0]
    inside, beyond, read = [t for t in scaling_chart([line]).data if t.mode == "lines" and t.fill is None]
    assert (inside.line.dash, inside.x[0], inside.x[-1]) == ("solid", 60_000, 960_000)
    assert (beyond.line.dash, beyond.x[0], beyond.x[-1]) == ("dot", 960_000, 9_600_000)
    assert np.allclose(inside.y, line.law.predict(inside.x), rtol=1e-5)
    for trace in (beyond, read):
        assert np.allclose(trace.y, line.analysis.outlook.predict(trace.x), rtol=1e-5)
    forecast = line.forecasts[-1]
    told = f"tokens: 9,600,000<br>predicted PPL: {forecast.ppl:.1f}<br>"
    told += f"95% interval of the law: {forecast.low:.1f} to {forecast.high:.1f}<br>"
    told += f"95% interval of one new run: {forecast.run_low:.1f} to {forecast.run_high:.1f}"
    assert told in read.hovertext[-1]
    # Where records lie, they are what is told.
    assert inside.hoverinfo == beyond.hoverinfo == "skip"
    assert read.line.width == 0 and read.x[0] > 1.05 * 960_000


def test_the_band_is_the_interval_of_the_law(tmp_path):
    line = lines_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=FIVE)[0]
    (band,) = [trace for trace in scaling_chart([line]).data if trace.fill == "toself"]
    half = len(band.x) // 2
    found = [line.analysis.outlook.at(tokens) for tokens in band.x[:half]]
    assert np.allclose(band.y[:half], [one.high for one in found], rtol=1e-4)
    assert np.allclose(band.y[half:][::-1], [one.low for one in found], rtol=1e-4)
    assert band.fillcolor == "rgba(0, 114, 178, 0.12)"


def test_two_sizes_have_a_law_and_nothing_beyond_it(tmp_path):
    figure = scaling_chart(lines_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100)))
    assert [trace for trace in figure.data if trace.fill == "toself"] == []
    assert not any("predicted PPL" in text for text in texts(figure))
    assert any(trace.mode == "lines" and trace.line.dash == "solid" for trace in figure.data)


def test_one_size_has_hollow_points_and_no_law(tmp_path):
    figure = scaling_chart(lines_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50,)))
    assert [trace.mode for trace in figure.data] == ["markers", "markers"]
    assert {trace.marker.symbol for trace in figure.data} == {"circle-open"}
    assert "<br>not in the fit: the only size left, and a fit<br>needs two" in texts(figure)[0]


def test_the_axes_are_logarithmic_and_hold_all_points_and_laws(tmp_path):
    figure = scaling_chart(lines_of(tmp_path))
    for axis, name in ((figure.layout.xaxis, "x"), (figure.layout.yaxis, "y")):
        low, high = (10**end for end in axis.range)
        values = [v for t in figure.data if t.fill is None for v in t[name] if v is not None]
        assert axis.type == "log" and low <= min(values) and max(values) <= high
    assert figure.layout.xaxis.title.text == "training tokens"


def test_lines_look_as_in_the_pngs(tmp_path):
    lines = lines_of(tmp_path)
    shown, styles = points(scaling_chart(lines)), styles_of(lines)
    for line in lines:
        style, trace = styles[line.label], shown[line.points[0].train_tokens, line.points[0].val_ppl]
        assert (trace.marker.color, trace.marker.symbol) == (style.color, SYMBOLS[style.marker])
    assert set(SYMBOLS) == {*SPARE_MARKERS, *(marker for _color, marker, _dashes in LOOKS.values())}
    assert dash(styles[lines[0].label]) == "solid" and dash(styles[lines[2].label]) == "5.4px,2.7px"


def test_the_legend_names_every_line_in_the_order_of_their_ends_and_hides_all_of_it(tmp_path):
    lines = lines_of(tmp_path, lines=DEFAULT_LINES[:2], sizes=FIVE, seeds=(1, 2, 3), change=bent_below)
    figure, extrapolates = scaling_chart(lines), {line.label: line.extrapolates for line in lines}
    assert set(extrapolates.values()) == {True, False}
    assert [entry.name for entry in entries(figure)] == ["kneser-ney", "cvfp"]
    for entry, label in zip(entries(figure), ("kneser-ney", "cvfp"), strict=True):
        group = [trace for trace in figure.data if trace.legendgroup == entry.legendgroup]
        # Entry, law, points; where nothing speaks against it also band, law beyond, and what is read off it.
        assert len(group) == (6 if extrapolates[label] else 3), label
        assert all(f"<b>{label}</b>" in trace.hovertext[0] for trace in group if trace.hovertext)


def test_many_lines_get_a_panel_per_arm_side_by_side_or_stacked(tmp_path):
    figure = scaling_chart(lines_of(tmp_path, lines=nine_lines()))
    titles = [note.text for note in figure.layout.annotations]
    assert titles == ["<b>cvfp</b>", "<b>random-context</b>", "<b>kneser-ney</b>"]
    for trace in figure.data:
        if trace.hovertext is not None:
            arm = titles[["x", "x2", "x3"].index(trace.xaxis)].removesuffix("</b>")
            assert trace.hovertext[0].startswith(arm) and trace.yaxis == trace.xaxis.replace("x", "y")
    assert len(entries(figure)) == 6
    domains = [figure.layout[axis].domain for axis in ("xaxis", "xaxis2", "xaxis3")]
    assert domains[0][1] < domains[1][0] and domains[1][1] < domains[2][0] < domains[2][1] <= 1
    narrow = figure.layout.meta["narrow"]
    assert narrow["xaxis2.domain"] == narrow["xaxis.domain"] == [0, 1]
    assert narrow["yaxis.domain"][0] > narrow["yaxis2.domain"][1] > narrow["yaxis3.domain"][1]
    assert narrow["yaxis3.domain"][0] == pytest.approx(0)


def test_ranks_are_of_lines_with_contexts_only(tmp_path):
    figure = rank_chart(lines_of(tmp_path))
    assert [entry.name for entry in entries(figure)] == ["cvfp", "random-context"]
    marks = [trace for trace in figure.data if trace.hovertext is not None]
    assert [trace.mode for trace in marks] == ["lines+markers"] * 2
    assert all(trace.y == (0.793,) * 4 and len(set(trace.x)) == 4 for trace in marks)
    assert any("<b>cvfp</b><br>documents: 400<br>" in text for text in texts(figure))


def test_with_several_seeds_records_are_light_and_their_means_are_joined(tmp_path):
    def change(run):
        return with_point(run, val_er=0.7 + 0.01 * run.point.seed)

    figure = rank_chart(lines_of(tmp_path, lines=DEFAULT_LINES[:1], seeds=(1, 2), change=change))
    means, records = [trace for trace in figure.data if trace.hovertext is not None]
    assert means.mode == "lines+markers" and means.y == pytest.approx([0.715] * 4)
    assert "documents: 50<br>seeds: 1, 2<br>mean ER: 71.5%" in means.hovertext[0]
    assert records.mode == "markers" and records.marker.opacity == 0.5 and len(records.x) == 8


def test_windows_show_exponents_with_their_intervals(tmp_path):
    lines = lines_of(tmp_path, analysis=WINDOWS)
    figure = progression_chart(lines)
    marks = [trace for trace in figure.data if trace.hovertext is not None]
    assert len(marks) == len(lines)
    for line in lines:
        (trace,) = [t for t in marks if t.hovertext[0].startswith(f"<b>{line.label}</b>")]
        assert list(trace.y) == [window.alpha for window in line.progression.windows]
        for index, window in enumerate(line.progression.windows):
            low, high = window.alpha_ci95
            assert window.alpha + trace.error_y.array[index] == pytest.approx(high)
            assert window.alpha - trace.error_y.arrayminus[index] == pytest.approx(low)
            assert abs(trace.x[index] - index) < 0.25
            fact = f"α: {window.alpha:.4f}<br>95% interval of α: {low:.4f} to {high:.4f}<br>"
            assert fact in trace.hovertext[index]
    assert len({trace.x[0] for trace in marks}) == len(lines)  # none hides another
    assert figure.layout.xaxis.ticktext == ("50 to 200", "100 to 400")


def test_a_window_of_two_sizes_has_no_interval(tmp_path):
    figure = progression_chart(lines_of(tmp_path, analysis=Analysis(window_size=2)))
    trace = next(trace for trace in figure.data if trace.hovertext is not None)
    assert set(trace.error_y.array) == {None}
    assert "95% interval of α: –" in trace.hovertext[0]


def test_a_chart_with_nothing_to_show_is_left_out(tmp_path):
    everything = lines_of(tmp_path / "all", analysis=WINDOWS)
    assert None not in charts_of(everything)
    ngrams = lines_of(tmp_path / "ngrams", lines=DEFAULT_LINES[1:2])
    assert scaling_chart(ngrams) is not None
    assert rank_chart(ngrams) is None and progression_chart(ngrams) is None
    unscored = lines_of(tmp_path / "none", change=lambda run: with_point(run, status="failed", val_ppl=None))
    assert scaling_chart(unscored) is None
    assert charts_of([]) == [None] * 3


def test_names_are_shown_never_obeyed(tmp_path):
    specs = (LineSpec("cvfp", HOSTILE), LineSpec("cvfp", "other", {"model.context_dim": 10}))
    lines = lines_of(tmp_path, lines=specs, analysis=WINDOWS)
    allowed = re.compile(r"</?b>|<br>")
    for figure in charts_of(lines):
        assert len(texts(figure)) > 0
        for text in [*texts(figure), *(entry.name for entry in entries(figure))]:
            assert "<" not in allowed.sub("", text) and ">" not in allowed.sub("", text)
        bold = [text for text in texts(figure) if "alert(1)" in text]
        assert bold and all("&lt;script&gt;alert(1)&lt;/script&gt;" in text for text in bold)
        assert all("&amp;lt;" in text for text in bold)
        assert entries(figure)[0].name.count("\n") == 0


def test_a_long_name_is_wrapped_in_hover_and_shortened_in_the_legend(tmp_path):
    long = "n" * 30 + " " + "m" * 90
    lines = lines_of(
        tmp_path, lines=(LineSpec("cvfp", long), LineSpec("cvfp", "o", {"model.context_dim": 10}))
    )
    figure = scaling_chart(lines)
    assert max(len(entry.name) for entry in entries(figure)) <= 43
    rows = next(text for text in texts(figure) if "nnn" in text).split("<br>")
    assert max(len(row) for row in rows) <= 46 + len("<b></b>")


def test_every_colour_shows_on_dark_paper(tmp_path):
    figure = scaling_chart(lines_of(tmp_path))
    assert figure.layout.meta["dark"] == dark_colors()
    assert (
        DARK["#000000"] == "#f2f2f2" and dark_colors()["rgba(0, 0, 0, 0.12)"] == "rgba(242, 242, 242, 0.12)"
    )

    def luminance(color: str) -> float:
        channels = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    paper = luminance(DARK[figure.layout.paper_bgcolor])
    for color in {*PALETTE, *(color for color, _marker, _dashes in LOOKS.values())}:
        assert (luminance(DARK.get(color, color)) + 0.05) / (paper + 0.05) > 3  # WCAG's bound for graphics


def test_charts_are_in_the_language_of_the_block(tmp_path):
    lines = lines_of(tmp_path)
    with speaking("ja"):
        figure = scaling_chart(lines)
    assert figure.layout.xaxis.title.text == "訓練トークン数"
    assert scaling_chart(lines).layout.xaxis.title.text == "training tokens"


def test_infinite_bounds_are_open_and_make_valid_json(tmp_path):
    line = lines_of(tmp_path, lines=DEFAULT_LINES[:1], sizes=FIVE)[0]
    analysis = replace(line.analysis)
    forms = [replace(form, covariance=1e12 * form.covariance) for form in line.analysis.outlook.forms]
    vars(analysis)["outlook"] = replace(line.analysis.outlook, forms=tuple(forms))
    wild = replace(line, fit=replace(line.fit, analysis=analysis))
    figure = scaling_chart([wild])
    assert any("to ∞" in text for text in texts(figure))
    assert "Infinity" not in figure.to_json(engine="json") and "NaN" not in figure.to_json(engine="json")
