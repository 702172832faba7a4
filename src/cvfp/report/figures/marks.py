"""Means over seeds, and the marks that show them: solid for the mean, light for each seed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from cvfp.records.results import PointRecord
from cvfp.report.figures.style import Style
from cvfp.scaling.power_law import Number

Place = tuple[Number, Number]
MARKER = 6.5
"""Points."""


def by_size(points: Sequence[PointRecord]) -> dict[int, list[PointRecord]]:
    """The points by number of documents, smallest first."""
    sizes = sorted({point.num_samples for point in points})
    return {size: [point for point in points if point.num_samples == size] for size in sizes}


def mean_of(points: Sequence[PointRecord], name: str) -> float:
    """Mean of a field that all of the points know."""
    return statistics.fmean(getattr(point, name) for point in points)


def mean_ppl(points: Sequence[PointRecord]) -> float:
    """exp of the mean loss on the test text."""
    return statistics.geometric_mean(point.val_ppl for point in points)


def draw_seeds(axes: Axes, places: Sequence[Place], style: Style) -> None:
    """Light markers; none for a single one, on which the mean lies."""
    if len(places) > 1:
        _draw(axes, places, style, linestyle="none", markersize=4, alpha=0.3, zorder=2)


def draw_mean(axes: Axes, places: Sequence[Place], style: Style, joined: bool = False) -> None:
    """Solid markers, joined by the line's dashes where asked for."""
    dashes = style.dashes if joined else "none"
    _draw(axes, places, style, linestyle=dashes, markersize=MARKER, zorder=style.zorder)


def draw_interval(axes: Axes, x: Number, interval: Place | None, style: Style) -> None:
    """An upright 95% interval at x, where there is one."""
    if interval is not None:
        axes.plot([x, x], interval, color=style.color, marker="_", markersize=6, zorder=style.zorder - 1)


def _draw(axes: Axes, places: Sequence[Place], style: Style, **settings: Any) -> None:
    axes.plot(
        [x for x, _y in places],
        [y for _x, y in places],
        color=style.color,
        marker=style.marker,
        fillstyle=style.fill,
        markerfacecoloralt="white",
        **settings,
    )
