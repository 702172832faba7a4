"""The charts of a report: scaling, effective rank, the local exponent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cvfp.records.results import PointRecord, WindowRecord
from cvfp.report import numbers
from cvfp.report.figures.analysis import ranked
from cvfp.report.figures.axes import padded, widened, with_intervals
from cvfp.report.figures.marks import by_size, mean_of
from cvfp.report.figures.progression import Windows, shifts_of, windows_of
from cvfp.report.figures.scaling import end_ppl, law_limits
from cvfp.report.figures.style import Style, arm_groups
from cvfp.report.interactive.look import (
    Axis,
    band_color,
    compose,
    forecast_text,
    hover,
    marker,
    mean_text,
    record_text,
    stroke,
    window_text,
)
from cvfp.report.language import _
from cvfp.report.lines import Line, several_seeds
from cvfp.scaling.outlook import Extrapolated

# --- The chart of scaling: test perplexity against training tokens, every record under its point.


STEPS = 25
"""Places at which a law is drawn within its data, and as many beyond, where it can be read off."""


def scaling_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Points, fitted laws and 95% bands in log-log axes; None without a scored point.

    A point that is in no fit is hollow; a law is dotted beyond the data, up to ten times the largest size.
    The legend is in the order in which the lines end.
    """
    shown = [line for line in lines if line.scored]
    if not shown:
        return None
    legend = sorted(shown, key=end_ppl, reverse=True)
    return compose(shown, lines, _law_axes(shown), (_band, _law, _points), legend)


def records(line: Line, points: Sequence[PointRecord], name: str, style: Style) -> dict[str, Any]:
    """Where points of a line stand by one of their fields, and their records under them."""
    runs = dict(zip(map(id, line.points), line.runs, strict=True))
    texts = [record_text(line, point, runs[id(point)]) for point in points]
    return {
        "x": [point.train_tokens for point in points],
        "y": [getattr(point, name) for point in points],
    } | hover(texts, style)


def _law_axes(shown: Sequence[Line]) -> tuple[Axis, Axis]:
    tokens, ppls = law_limits(shown)
    return (
        Axis(_("training tokens"), tokens, log=True, tickformat="~s"),
        Axis(_("test PPL"), ppls, log=True, tickformat=",~r"),
    )


def _points(line: Line, style: Style) -> list[go.Scatter]:
    fitted = [point for point in line.scored if point in line.fitted]
    return [
        go.Scatter(records(line, points, "val_ppl", style), mode="markers", marker=marker(style, hollow))
        for points, hollow in ((line.excluded, True), (fitted, False))
        if points
    ]


def _law(line: Line, style: Style) -> list[go.Scatter]:
    """The law within its data; the forecast beyond, where there is one, and what can be read off there.

    Where records lie, these are what is read off: the nearest mark wins, so none of the law's may lie there.
    """
    if line.law is None:
        return []
    tokens = line.analysis.points.tokens
    inside = np.geomspace(tokens.min(), tokens.max(), STEPS)
    drawn = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
    course = {"x": _written(inside), "y": _written(np.asarray(line.law.predict(inside)))}
    found = [go.Scatter(course, **drawn, line=stroke(style))]
    if line.ahead:
        found.append(go.Scatter(_course(line.ahead), **drawn, line=stroke(style, "dot")))
        texts = [forecast_text(line, one) for one in line.ahead[1:]]
        read = _course(line.ahead[1:])
        found.append(go.Scatter(read, mode="lines", line={"width": 0}, **hover(texts, style)))
    return found


def _course(ahead: Sequence[Extrapolated]) -> dict[str, list[float]]:
    return {
        "x": _written(np.array([one.tokens for one in ahead])),
        "y": _written(np.array([one.ppl for one in ahead])),
    }


def _band(line: Line, style: Style) -> list[go.Scatter]:
    """One outline: along the upper bounds and back along the lower ones."""
    if not line.ahead:
        return []
    tokens = np.array([one.tokens for one in line.ahead])
    low, high = (np.array([getattr(one, end) for one in line.ahead]) for end in ("low", "high"))
    return [
        go.Scatter(
            x=_written(np.concatenate([tokens, tokens[::-1]])),
            y=_written(np.concatenate([high, low[::-1]])),
            mode="lines",
            line={"width": 0},
            fill="toself",
            fillcolor=band_color(style.color),
            hoverinfo="skip",
            showlegend=False,
        )
    ]


def _written(values: np.ndarray) -> list[float]:
    """Six digits, which no screen tells from more."""
    return [float(f"{value:.6g}") for value in values]


# --- The chart of the effective rank of contexts over training tokens.


def rank_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Effective rank as a share of the width: every record, the means over seeds; None without contexts."""
    shown = [line for line in lines if ranked(line)]
    return compose(shown, lines, _rank_axes(shown), (_means, _records)) if shown else None


def _rank_axes(shown: Sequence[Line]) -> tuple[Axis, Axis]:
    points = [point for line in shown for point in ranked(line)]
    return (
        Axis(_("training tokens"), padded([p.tokens for p in points], 0.06), log=True, tickformat="~s"),
        Axis(
            _("effective rank, share of the width"),
            widened([p.rank for p in points], 0.10),
            tickformat="~%",
        ),
    )


def _records(line: Line, style: Style) -> list[go.Scatter]:
    """Light beside means; without them joined."""
    points = sorted(ranked(line), key=lambda point: point.tokens)
    shown = records(line, points, "val_er", style)
    if several_seeds(points):
        return [go.Scatter(shown, mode="markers", marker=marker(style, size=7, opacity=0.5))]
    return [go.Scatter(shown, mode="lines+markers", marker=marker(style), line=stroke(style))]


def _means(line: Line, style: Style) -> list[go.Scatter]:
    """The means of every size over its seeds, joined; nothing where there is one seed."""
    if not several_seeds(ranked(line)):
        return []
    sizes = list(by_size(ranked(line)).values())
    ranks = [mean_of(points, "val_er") for points in sizes]
    texts = [mean_text(line, points, rank) for points, rank in zip(sizes, ranks, strict=True)]
    return [
        go.Scatter(
            hover(texts, style),
            x=[mean_of(points, "train_tokens") for points in sizes],
            y=ranks,
            mode="lines+markers",
            marker=marker(style),
            line=stroke(style),
        )
    ]


# --- The chart of the local exponent: alpha of every sliding window, with its interval.


def progression_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Exponents of the windows, which stand side by side, with 95% intervals; None without windows.

    The lines of a window are moved apart, so that intervals do not hide each other.
    """
    shown = [line for line in lines if line.progression is not None]
    if not shown:
        return None
    windows, panels = windows_of(shown), arm_groups(shown, lines).values()
    shifts = {label: shift for members in panels for label, shift in shifts_of(members).items()}
    layers = (lambda line, style: [_exponents(line, windows, shifts[line.label], style)],)
    return compose(shown, lines, _window_axes(shown, windows), layers)


def _window_axes(shown: Sequence[Line], windows: Windows) -> tuple[Axis, Axis]:
    found = [window for line in shown for window in line.windows]
    alphas = with_intervals([window.alpha for window in found], [window.alpha_ci95 for window in found])
    names = tuple(numbers.count_range(sizes) for sizes in windows)
    return (
        Axis(_("documents"), (-0.5, len(windows) - 0.5), names=names),
        Axis(_("exponent α"), widened(alphas, 0.08)),
    )


def _exponents(line: Line, windows: Windows, shift: float, style: Style) -> go.Scatter:
    found = line.windows
    above, below = zip(*map(_reach, found), strict=True)
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return go.Scatter(
        hover([window_text(line, window) for window in found], style),
        x=[windows[window.sample_range] + shift for window in found],
        y=[window.alpha for window in found],
        error_y=bars | {"color": style.color, "thickness": 1.5, "width": 4},
        mode="lines+markers",
        marker=marker(style),
        line=stroke(style),
    )


def _reach(window: WindowRecord) -> tuple[float | None, float | None]:
    """How far the interval goes above and below the exponent."""
    if window.alpha_ci95 is None:
        return None, None
    low, high = window.alpha_ci95
    return high - window.alpha, window.alpha - low
