"""The chart of scaling: validation perplexity against training tokens, every record under its point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cvfp.records.results import PointRecord
from cvfp.report.figures.laws import REACH, end_ppl, law_limits
from cvfp.report.figures.style import Style
from cvfp.report.interactive.compose import compose
from cvfp.report.interactive.hover import law_text, record_text
from cvfp.report.interactive.look import band_color, hover, marker, stroke
from cvfp.report.interactive.panels import Axis
from cvfp.report.language import _
from cvfp.report.lines import Line

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
    return compose(shown, lines, _axes(shown), (_band, _law, _points), legend)


def records(line: Line, points: Sequence[PointRecord], name: str, style: Style) -> dict[str, Any]:
    """Where points of a line stand by one of their fields, and their records under them."""
    runs = dict(zip(map(id, line.points), line.runs, strict=True))
    texts = [record_text(line, point, runs[id(point)]) for point in points]
    return {
        "x": [point.train_tokens for point in points],
        "y": [getattr(point, name) for point in points],
    } | hover(texts, style)


def _axes(shown: Sequence[Line]) -> tuple[Axis, Axis]:
    tokens, ppls = law_limits(shown)
    return (
        Axis(_("training tokens"), tokens, log=True, tickformat="~s"),
        Axis(_("validation perplexity"), ppls, log=True, tickformat=",~r"),
    )


def _points(line: Line, style: Style) -> list[go.Scatter]:
    fitted = [point for point in line.scored if point in line.fitted]
    return [
        go.Scatter(records(line, points, "val_ppl", style), mode="markers", marker=marker(style, hollow))
        for points, hollow in ((line.excluded, True), (fitted, False))
        if points
    ]


def _law(line: Line, style: Style) -> list[go.Scatter]:
    """The law within its data, beyond them, and what can be read off there.

    Where records lie, these are what is read off: the nearest mark wins, so none of the law's may lie there.
    """
    if line.law is None:
        return []
    inside, beyond = _sizes(line)
    drawn = {"mode": "lines", "hoverinfo": "skip", "showlegend": False}
    read = beyond[1:]
    return [
        go.Scatter(_course(line, inside), **drawn, line=stroke(style)),
        go.Scatter(_course(line, beyond), **drawn, line=stroke(style, "dot")),
        go.Scatter(
            _course(line, read), mode="lines", line={"width": 0}, **hover(_law_texts(line, read), style)
        ),
    ]


def _course(line: Line, tokens: np.ndarray) -> dict[str, list[float]]:
    return {"x": _written(tokens), "y": _written(line.law.predict(tokens))}


def _law_texts(line: Line, tokens: np.ndarray) -> list[str]:
    band = line.law.prediction_interval(tokens)
    bounds = [None] * len(tokens) if band is None else list(zip(*np.stack(band).tolist(), strict=True))
    predicted = line.law.predict(tokens).tolist()
    return [law_text(line, *each) for each in zip(tokens.tolist(), predicted, bounds, strict=True)]


def _band(line: Line, style: Style) -> list[go.Scatter]:
    """One outline: along the upper bounds and back along the lower ones."""
    if line.law is None:
        return []
    tokens = np.concatenate(_sizes(line))
    band = line.law.prediction_interval(tokens)
    if band is None:
        return []
    low, high = band
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


def _sizes(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """Sizes within the data of a fit, and beyond them."""
    tokens = [float(point.train_tokens) for point in line.fitted]
    return np.geomspace(min(tokens), max(tokens), STEPS), np.geomspace(max(tokens), _end(line), STEPS)


def _end(line: Line) -> float:
    return float(REACH * max(point.train_tokens for point in line.fitted))


def _written(values: np.ndarray) -> list[float]:
    """Six digits, which no screen tells from more."""
    return [float(f"{value:.6g}") for value in values]
