"""A chart without content: panels with axes and titles, and where they stand on wide and narrow screens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from cvfp.report.figures.axes import Limits
from cvfp.report.figures.panels import grid_shape
from cvfp.report.interactive.hover import shown
from cvfp.report.interactive.look import GRID, INK, base_layout, dark_colors

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
