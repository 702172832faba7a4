"""How charts look: what they say under the pointer, colours on light and dark paper, panels, legends.

Markers and dashes are those of the PNGs.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from cvfp.records.results import PointRecord, RunRecord, WindowRecord
from cvfp.report import numbers
from cvfp.report.figures.axes import Limits, grid_shape
from cvfp.report.figures.style import (
    CROSSED_STAR,
    STAR,
    Style,
    arm_groups,
    named_groups,
    short_label,
    styles_of,
)
from cvfp.report.language import _
from cvfp.report.lines import REASONS, Line, capped, phase1_iterations
from cvfp.scaling.outlook import Extrapolated

# --- What a chart says of what is under the pointer: names escaped, numbers as in the tables.


ROW = 46
"""Characters of a row of a hover label, so that it fits on a telephone."""


def shown(text: str) -> str:
    """`text` as one line that plotly shows with exactly its characters: it reads some tags and entities."""
    return html.escape(" ".join(text.split()), quote=False)


def record_text(line: Line, point: PointRecord, run: RunRecord | None) -> str:
    """The whole record of a point; why no fit uses it, where none does."""
    facts = [
        (_("documents"), numbers.count(point.num_samples)),
        (_("tokens"), numbers.count(point.train_tokens)),
        (_("seed"), str(point.seed)),
        (_("test PPL"), numbers.ppl(point.val_ppl)),
        (_("train PPL"), numbers.ppl(point.train_ppl)),
        (_("dev PPL"), numbers.ppl(point.dev_ppl)),
        (_("test accuracy"), numbers.share(point.val_acc)),
        (_("bits per byte"), numbers.bits(point.bits_per_byte)),
        (_("ER"), numbers.share(point.val_er)),
        (_("P1 iterations"), phase1_iterations(point, run)),
        (_("steps"), numbers.count(point.steps)),
        (_("stopped by"), _stopped_by(point)),
        (_("seconds"), numbers.seconds(point.wall_seconds)),
    ]
    return _label(line.label, facts, _exclusions(line, point))


def forecast_text(line: Line, one: Extrapolated) -> str:
    """What is forecast at a size."""
    facts = [
        (_("tokens"), numbers.count(one.tokens)),
        (_("predicted PPL"), numbers.ppl(one.ppl)),
        (_("95% interval of the law"), numbers.ppl_interval(one.low, one.high)),
        (_("95% interval of one new run"), numbers.ppl_interval(one.run_low, one.run_high)),
    ]
    return _label(line.label, facts)


def window_text(line: Line, window: WindowRecord) -> str:
    """The law of one window."""
    sizes = numbers.count_range(window.sample_range)
    if window.missing_sizes:
        sizes = f"{sizes}, {numbers.without(window.missing_sizes)}"
    facts = [
        (_("documents"), sizes),
        (_("training tokens"), numbers.count_range(window.token_range)),
        (_("α"), numbers.exponent(window.alpha)),
        (_("95% interval of α"), numbers.exponent_interval(window.alpha_ci95)),
        (_("A"), numbers.coefficient(window.A)),
        (_("R²"), numbers.r_squared(window.r_squared)),
    ]
    return _label(line.label, facts)


def mean_text(line: Line, points: list[PointRecord], rank: float) -> str:
    """The effective rank of a size as the mean over its seeds."""
    facts = [
        (_("documents"), numbers.count(points[0].num_samples)),
        (_("seeds"), ", ".join(str(point.seed) for point in points)),
        (_("mean ER"), numbers.share(rank)),
    ]
    return _label(line.label, facts)


def _label(name: str, facts: Iterable[tuple[str, str]], notes: Iterable[str] = ()) -> str:
    """The name in bold, a row per fact, the notes."""
    head = "<br>".join(f"<b>{shown(row)}</b>" for row in textwrap.wrap(name, ROW))
    rows = [shown(f"{what}: {value}") for what, value in facts]
    return "<br>".join([head, *rows, *(shown(row) for note in notes for row in textwrap.wrap(note, ROW))])


def _stopped_by(point: PointRecord) -> str:
    if point.stop_reason is None:
        return numbers.ABSENT
    return _(point.stop_reason.replace("_", " ")) + ("‡" if capped(point) else "")


def _exclusions(line: Line, point: PointRecord) -> list[str]:
    return [
        _("not in the fit: {reason}").format(reason=_(REASONS[why.reason]).format(seed=why.repeated_seed))
        for why in line.fit.excluded
        if (why.num_samples, why.seed) == (point.num_samples, point.seed)
    ]


# --- How charts look: colours on light and dark paper, markers and dashes as in the PNGs, the common layout.


INK, GRID, QUIET, PAPER = "#222222", "#dddddd", "#767676", "#ffffff"
DARK = {
    INK: "#dcdcdf",
    GRID: "#3a3b40",
    QUIET: "#9a9aa0",
    PAPER: "#17181b",
    "#000000": "#f2f2f2",
    "#0072B2": "#3d9ae0",
    "#2337C6": "#7f8cff",
    "#6B4226": "#a9764a",
}
"""What colours become on dark paper; those not named show on both."""
BAND = 0.12
"""Opacity of the shading of an interval."""
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK JP", sans-serif'

SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
    "<": "triangle-left",
    ">": "triangle-right",
    "*": "star",
    "p": "pentagon",
    "d": "diamond-tall",
    "h": "hexagon",
    "8": "octagon",
    "H": "hexagon2",
    STAR: "hexagram",
    CROSSED_STAR: "star-diamond",
}
"""Plotly's markers by matplotlib's."""
LINE_WIDTH = 1.8


def symbol(style: Style, hollow: bool = False) -> str:
    """The marker of a line."""
    return SYMBOLS[style.marker] + ("-open" if hollow else "")


def dash(style: Style) -> str:
    """The dashes of a line: matplotlib's, which are multiples of the width, in pixels."""
    if style.dashes == "-":
        return "solid"
    _offset, lengths = style.dashes
    return ",".join(f"{LINE_WIDTH * length:.3g}px" for length in lengths)


def marker(style: Style, hollow: bool = False, **settings: Any) -> dict[str, Any]:
    """A filled marker with an edge of paper, or a hollow one."""
    edge = {"width": 1.5, "color": style.color} if hollow else {"width": 0.8, "color": PAPER}
    size = 4 + 1.35 * style.size
    return {"symbol": symbol(style, hollow), "color": style.color, "size": size, "line": edge} | settings


def stroke(style: Style, dashes: str | None = None) -> dict[str, Any]:
    """A line; `dashes` where they are not the style's own."""
    return {"color": style.color, "width": LINE_WIDTH, "dash": dash(style) if dashes is None else dashes}


def hover(texts: Sequence[str], style: Style) -> dict[str, Any]:
    """A text under every place, in a frame of the line's colour; no entry in the legend."""
    return {
        "hovertext": list(texts),
        "hoverinfo": "text",
        "hoverlabel": {"bordercolor": style.color},
        "showlegend": False,
    }


def band_color(color: str) -> str:
    """A colour as the shading of an interval."""
    red, green, blue = (int(color[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {BAND})"


def dark_colors() -> dict[str, str]:
    """Every colour that changes on dark paper, as a line and as a shading."""
    return DARK | {band_color(light): band_color(dark) for light, dark in DARK.items()}


def legend_entry(name: str, members: Sequence[Line], rank: int, style: Style) -> go.Scatter:
    """What stands for lines of one style in the legend, at place `rank`; a click on it hides them.

    It draws nothing itself, so that marker and dashes can stand together: dashes where a line has a law, a
    filled marker where one has a point in a fit.
    """
    law, fitted = any(line.law is not None for line in members), any(line.fitted for line in members)
    return go.Scatter(
        x=[None],
        y=[None],
        mode="lines+markers" if law else "markers",
        marker=marker(style, hollow=not fitted),
        line=stroke(style),
        name=shown(short_label(name)),
        legendgroup=str(rank),
        legendrank=rank,
    )


def base_layout() -> dict[str, Any]:
    """What the layouts of all charts have in common."""
    return {
        "template": go.layout.Template(),
        "paper_bgcolor": PAPER,
        "plot_bgcolor": PAPER,
        "font": {"family": FONT, "size": 13, "color": INK},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": PAPER, "align": "left", "font": {"size": 12, "color": INK}},
        "legend": {"itemsizing": "trace", "tracegroupgap": 2, "font": {"size": 12.5}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": QUIET, "activecolor": INK},
        # The same value says that a redrawn chart keeps its zoom and its hidden lines.
        "uirevision": "one",
    }


# --- A chart without content: panels with axes and titles, and where they stand on wide and narrow screens.


ONE_PANEL, EACH_PANEL, NARROW_PANEL = 400, 250, 300
"""Pixels of height of the only panel, of each row of several, of each panel on a narrow screen."""
TOP, BOTTOM, BETWEEN = 28, 60, 78
"""Pixels above the panels (for titles), below them (for the axis), between two rows of them."""
GAP = 0.09
"""Between two columns, as a share of the width."""
LEGEND_ROW = 26
"""Pixels."""
LABELLED = 0.31
"""Decades per label that plotly labels with 1, 2, 5; with less room between them it writes every digit."""


@dataclass(frozen=True)
class Axis:
    """What all panels have in common along one direction."""

    title: str
    limits: Limits
    log: bool = False
    tickformat: str = ""
    names: Sequence[str] = ()
    """Of the places 0, 1, 2 and so on, where these are what stands along the axis."""

    def layout(self) -> dict[str, Any]:
        """The axis in plotly's words; the limits of a logarithmic one are exponents of ten."""
        limits = [math.log10(end) for end in self.limits] if self.log else list(self.limits)
        return {
            "type": "log" if self.log else "linear",
            "range": limits,
            "nticks": max(int((limits[1] - limits[0]) / LABELLED), 3) if self.log else 8,
            "tickformat": self.tickformat,
            "gridcolor": GRID,
            "linecolor": INK,
            "ticks": "outside",
            "ticklen": 4,
            "tickcolor": INK,
            "zeroline": False,
            "title": {"standoff": 10},
            "automargin": "left",
        } | self._named()

    def _named(self) -> dict[str, Any]:
        if not self.names:
            return {}
        places = list(range(len(self.names)))
        return {"tickvals": places, "ticktext": list(self.names), "showgrid": False}


def panel_figure(titles: Sequence[str], x: Axis, y: Axis, entries: int) -> go.Figure:
    """A chart with a panel per title and without traces; `entries` is the number of names in its legend.

    Its layout is that of a wide screen. `layout.meta` holds what the page needs beside it: what is other on
    a narrow screen (`narrow`, values by their dotted place), and the colours on dark paper (`dark`).
    """
    figure = go.Figure(layout=base_layout())
    for index, title in enumerate(titles):
        figure.layout[f"xaxis{number(index)}"] = (
            x.layout() | {"anchor": f"y{number(index)}"} | _matched(index, "x")
        )
        figure.layout[f"yaxis{number(index)}"] = (
            y.layout() | {"anchor": f"x{number(index)}"} | _matched(index, "y")
        )
        if title:
            figure.add_annotation(_title(title, index))
    wide, narrow = _placed(len(titles), x, y, entries, False), _placed(len(titles), x, y, entries, True)
    figure.update_layout(wide)
    figure.update_layout(meta={"narrow": narrow, "dark": dark_colors()})
    return figure


def number(index: int) -> str:
    """What plotly appends to the names of the axes of a panel: nothing, 2, 3 and so on."""
    return "" if index == 0 else str(index + 1)


def axes_of(index: int) -> dict[str, str]:
    """The axes that the traces of a panel use."""
    return {"xaxis": f"x{number(index)}", "yaxis": f"y{number(index)}"}


def _matched(index: int, axis: str) -> dict[str, str]:
    """Panels zoom together."""
    return {} if index == 0 else {"matches": axis}


def _title(text: str, index: int) -> dict[str, Any]:
    return {
        "text": f"<b>{shown(text)}</b>",
        "xref": f"x{number(index)} domain",
        "yref": f"y{number(index)} domain",
        "x": 0,
        "y": 1,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }


def _placed(count: int, x: Axis, y: Axis, entries: int, narrow: bool) -> dict[str, Any]:
    """Where panels and legend stand, by dotted places in a layout."""
    rows, columns = (count, 1) if narrow else grid_shape(count)
    each = NARROW_PANEL if narrow else ONE_PANEL if count == 1 else EACH_PANEL
    inner = rows * each + (rows - 1) * BETWEEN
    beside = count == 1 and not narrow
    below = 0 if beside else LEGEND_ROW * math.ceil(entries / (2 if narrow else 4))
    places = {
        "height": TOP + inner + BOTTOM + below,
        "margin": {"l": 64, "r": 16, "t": TOP, "b": BOTTOM + below},
    }
    places |= _legend(beside, inner)
    for index in range(count):
        row, column = divmod(index, columns)
        top = 1 - row * (each + BETWEEN) / inner
        left = column * (1 + GAP) / columns
        lowest = index + columns >= count
        places |= {
            f"xaxis{number(index)}.domain": [left, left + (1 - GAP * (columns - 1)) / columns],
            f"yaxis{number(index)}.domain": [max(top - each / inner, 0), top],
            f"xaxis{number(index)}.title.text": x.title if lowest else "",
            f"yaxis{number(index)}.title.text": y.title if column == 0 else "",
        }
        if narrow:
            places[f"xaxis{number(index)}.nticks"] = 3
    return places


def _legend(beside: bool, inner: int) -> dict[str, Any]:
    if beside:
        place = {"orientation": "v", "x": 1.01, "xanchor": "left", "y": 1, "yanchor": "top"}
    else:
        below = -(BOTTOM - 4) / inner
        place = {"orientation": "h", "x": 0, "xanchor": "left", "y": below, "yanchor": "top"}
    return {f"legend.{name}": value for name, value in place.items()}


# --- From what is drawn of one line to a chart of all: panels, legend, layers.


Layer = Callable[[Line, Style], list[go.Scatter]]
"""Draws one thing of a line: its points, its law."""


def compose(
    shown: Sequence[Line],
    lines: Sequence[Line],
    axes: tuple[Axis, Axis],
    layers: Sequence[Layer],
    legend: Sequence[Line] | None = None,
) -> go.Figure:
    """A chart of lines that look as in the PNGs: many get a panel per arm.

    Args:
        shown: the lines of the chart.
        lines: those of the sweep.
        axes: horizontal and vertical, the same in all panels.
        layers: from the bottom up; within one the first line lies on top.
        legend: the shown lines in the order of the legend, where that is another.
    """
    panels, styles = arm_groups(shown, lines), styles_of(lines)
    groups = named_groups(shown if legend is None else legend, lines)
    group_of = {line.label: str(rank) for rank, (_name, members) in enumerate(groups) for line in members}
    figure = panel_figure(list(panels), *axes, entries=len(groups))
    for rank, (name, members) in enumerate(groups):
        figure.add_trace(legend_entry(name, members, rank, styles[members[0].label]))
    for index, members in enumerate(panels.values()):
        for layer in layers:
            for line in reversed(members):
                place = axes_of(index) | {"legendgroup": group_of[line.label]}
                figure.add_traces([trace.update(place) for trace in layer(line, styles[line.label])])
    return figure
