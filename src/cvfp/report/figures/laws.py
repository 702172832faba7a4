"""Perplexity against training tokens in log-log axes: points, fitted laws, prediction bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cvfp.records.results import PointRecord
from cvfp.report.figures.axes import padded, set_log
from cvfp.report.figures.style import Style
from cvfp.report.lines import Line

REACH = 10
"""Fits are drawn on to this multiple of the largest fitted size."""


def draw_line(axes: Axes, line: Line, style: Style) -> None:
    """Every scored point, hollow where it is in no fit; the law, dotted beyond the data; its 95% band."""
    _draw_points(axes, line.excluded, style, "white")
    _draw_points(axes, [point for point in line.scored if point in line.fitted], style, style.color)
    if line.law is not None:
        _draw_fit(axes, line, style)


def set_law_axes(axes: Axes, lines: Sequence[Line]) -> None:
    """Limits hold every point and every predicted line; a band wider than that is cut off."""
    points = [point for line in lines for point in line.scored]
    ends = [(_end(line), end_ppl(line)) for line in lines if line.law is not None]
    set_log(axes.xaxis, padded([*(p.train_tokens for p in points), *(end for end, _ in ends)], 0.04))
    set_log(axes.yaxis, padded([*(p.val_ppl for p in points), *(ppl for _, ppl in ends)], 0.06))


def end_ppl(line: Line) -> float:
    """Perplexity where the drawn line ends."""
    if line.law is None:
        return max(line.scored, key=lambda point: point.train_tokens).val_ppl
    return float(line.law.predict(_end(line)))


def _end(line: Line) -> int:
    return REACH * max(point.train_tokens for point in line.fitted)


def _draw_points(axes: Axes, points: Sequence[PointRecord], style: Style, face: str) -> None:
    if not points:
        return
    filled = face == style.color
    axes.plot(
        [point.train_tokens for point in points],
        [point.val_ppl for point in points],
        linestyle="none",
        marker=style.marker,
        color=style.color,
        markerfacecolor=face,
        markeredgecolor="white" if filled else style.color,
        markeredgewidth=0.7 if filled else 1.3,
        markersize=style.size,
        zorder=style.zorder,
    )


def _draw_fit(axes: Axes, line: Line, style: Style) -> None:
    tokens = np.array([point.train_tokens for point in line.fitted], dtype=np.float64)
    inside = np.geomspace(tokens.min(), tokens.max(), 50)
    beyond = np.geomspace(tokens.max(), REACH * tokens.max(), 50)
    axes.plot(inside, line.law.predict(inside), color=style.color, linestyle=style.dashes)
    axes.plot(beyond, line.law.predict(beyond), color=style.color, linestyle=":")
    everywhere = np.concatenate([inside, beyond])
    band = line.law.prediction_interval(everywhere)
    if band is not None:
        axes.fill_between(everywhere, *band, color=style.color, alpha=0.10, linewidth=0, zorder=1)
