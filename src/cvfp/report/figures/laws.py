"""Perplexity against training tokens in log-log axes: points, fitted laws, prediction bands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from cvfp.records.results import PointRecord
from cvfp.report.figures.axes import Limits, padded, set_log
from cvfp.report.figures.style import Style
from cvfp.report.lines import Line

REACH = 10
"""Fits are drawn on to this multiple of the largest fitted size."""
BAND_REACH = 2
"""A band is shown up to this factor beyond the points and the laws."""


def draw_line(axes: Axes, line: Line, style: Style) -> None:
    """Every scored point, hollow where it is in no fit; the law, dotted beyond the data; its 95% band."""
    _draw_points(axes, line.excluded, style, "white")
    _draw_points(axes, [point for point in line.scored if point in line.fitted], style, style.color)
    if line.law is not None:
        _draw_fit(axes, line, style)


def set_law_axes(axes: Axes, lines: Sequence[Line]) -> None:
    """Round counts within `law_limits`."""
    across, up = law_limits(lines)
    set_log(axes.xaxis, across)
    set_log(axes.yaxis, up)


def law_limits(lines: Sequence[Line]) -> tuple[Limits, Limits]:
    """Of tokens and PPL: they hold every point, all laws and their bands; a far wider one is cut off."""
    points = [point for line in lines for point in line.scored]
    tokens = [point.train_tokens for point in points] + [_end(line) for line in lines if line.law is not None]
    ppls = [*(point.val_ppl for point in points), *map(end_ppl, lines)]
    bands = [bound for line in lines for bound in _bounds(line)]
    seen = np.clip(bands, min(ppls) / BAND_REACH, BAND_REACH * max(ppls)).tolist()
    return padded(tokens, 0.04), padded([*ppls, *seen], 0.06)


def end_ppl(line: Line) -> float:
    """Perplexity where the drawn line ends."""
    if line.law is None:
        return max(line.scored, key=lambda point: point.train_tokens).val_ppl
    return float(line.law.predict(_end(line)))


def _bounds(line: Line) -> list[float]:
    """The bounds of the drawn band at its ends, between which it goes no further; none without a band."""
    if line.law is None:
        return []
    ends = [min(point.train_tokens for point in line.fitted), _end(line)]
    band = line.law.prediction_interval(np.array(ends, dtype=np.float64))
    return [] if band is None else np.ravel(band).tolist()


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
