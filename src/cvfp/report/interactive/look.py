"""How charts look: colours on light and dark paper, markers and dashes as in the PNGs, the common layout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from cvfp.report.figures.style import CROSSED_STAR, STAR, Style, short_label
from cvfp.report.interactive.hover import shown
from cvfp.report.lines import Line

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
    size = 1.35 * style.size
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
