"""Marks of values: means over seeds, each seed, intervals; and forest plots, a row per line."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.results import PointRecord
from cvfp.report.figures.axes import Limits, padded, set_linear, set_log, widened, with_intervals
from cvfp.report.figures.style import Style, grid_along, short_label
from cvfp.report.numbers import Number

Place = tuple[Number, Number]
MARKER = 4.5
NAME_SIZE, NAME_HEIGHT = 8.0, 10.5
"""Points: of a marker, of the type of names beside a panel, and of the room that each needs."""
NAMES_FROM = 1.06
"""Of the width of a panel: where leaders to names end, which do not cross them."""
PANEL_SHARE = 0.8
"""Of the height of a figure that its only panel has, about."""


def by_size(points: Sequence[PointRecord]) -> dict[int, list[PointRecord]]:
    """The points by number of documents, smallest first."""
    sizes = sorted({point.num_samples for point in points})
    return {size: [point for point in points if point.num_samples == size] for size in sizes}


def mean_of(points: Sequence[PointRecord], name: str) -> float:
    """Mean of a field that all of the points know."""
    return statistics.fmean(getattr(point, name) for point in points)


def mean_ppl(points: Sequence[PointRecord]) -> float:
    """exp of the mean loss on the test text."""
    return statistics.geometric_mean(point.ppl for point in points)


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


def spread(values: Sequence[float], gap: float) -> list[float]:
    """The values moved as little as it takes to lie `gap` apart, in their order, within [0, 1]."""
    order = sorted(range(len(values)), key=lambda index: values[index])
    moved = [min(max(values[index], 0.0), 1.0) for index in order]
    for index in range(1, len(moved)):
        moved[index] = max(moved[index], moved[index - 1] + gap)
    ceiling = 1.0
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], ceiling)
        ceiling = moved[index] - gap
    return [moved[order.index(index)] for index in range(len(values))]


@dataclass(frozen=True)
class End:
    """The place where a line ends, in data coordinates, with its name and its colour."""

    x: Number
    y: Number
    name: str
    color: str


def name_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Names to the right of a panel, at the height where their lines end, or as near as leaves them legible.

    Limits and scales are set before. The panel is the only one of its figure.
    """
    assert isinstance(axes.figure, Figure)
    panel = axes.transAxes.inverted()
    heights = [float(panel.transform(axes.transData.transform((end.x, end.y)))[1]) for end in ends]
    gap = NAME_HEIGHT / (72 * PANEL_SHARE * axes.figure.get_figheight())
    for end, height, place in zip(
        ends, heights, spread(heights, min(gap, 1 / max(len(ends), 1))), strict=True
    ):
        across = float(panel.transform(axes.transData.transform((end.x, end.y)))[0])
        axes.annotate(
            "",
            xy=(across, height),
            xytext=(NAMES_FROM, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            annotation_clip=False,
            zorder=2,
            arrowprops={
                "arrowstyle": "-",
                "color": end.color,
                "alpha": 0.35,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 3,
            },
        )
        axes.text(
            NAMES_FROM + 0.01,
            place,
            short_label(end.name),
            transform=axes.transAxes,
            va="center",
            color=end.color,
            fontsize=NAME_SIZE,
            zorder=6,
        )


# --- Forest plots: a row per line, a column per quantity, values with their intervals and single seeds.


ROW = 0.235
"""Inches per row."""
NARROW = 3
"""Labels at most under a column."""
APART = 0.5
"""Rows between two values of a row."""


@dataclass(frozen=True)
class Mark:
    """One value of one row: its 95% interval, the single seeds that it is the mean of, and another value of
    the same quantity, drawn hollow below it."""

    value: float
    interval: Limits | None = None
    seeds: tuple[float, ...] = ()
    other: Mark | None = None

    @property
    def values(self) -> list[float]:
        return [self.value, *self.seeds, *([] if self.other is None else self.other.values)]

    @property
    def intervals(self) -> list[Limits | None]:
        return [self.interval, *([] if self.other is None else self.other.intervals)]


@dataclass(frozen=True)
class Column:
    """One quantity of every row, None where it does not have it."""

    title: str
    marks: tuple[Mark | None, ...]
    log: bool = False

    @property
    def known(self) -> list[Mark]:
        return [mark for mark in self.marks if mark is not None]


def draw_column(axes: Axes, column: Column, rows: Sequence[float], styles: Sequence[Style]) -> None:
    """The marks of one column at these heights."""
    for mark, y, style in zip(column.marks, rows, styles, strict=True):
        if mark is not None:
            _draw_mark(axes, mark, y, style)
    _set_values(axes, column)
    axes.set_title(column.title)
    grid_along(axes, "x")


def places(groups: Sequence[Hashable], gap: float = 0.5) -> list[float]:
    """Heights of rows, 1 apart, and `gap` more between groups, where there is one of several rows."""
    gap = gap if len(set(groups)) < len(groups) else 0.0
    steps = [1 + gap * (above != below) for above, below in itertools.pairwise(groups)]
    return list(itertools.accumulate(steps, initial=0.0))


def name_rows(axes: Axes, rows: Sequence[float], names: Sequence[str]) -> None:
    """Names at the rows of the first column, the first row on top; faint lines lead to the marks."""
    axes.set_yticks(list(rows), list(names))
    axes.set_ylim(max(rows) + 0.6, min(rows) - 0.6)


def mean_mark(values: Sequence[float | None], geometric: bool = False) -> Mark | None:
    """The mean over seeds with the seeds; None where there is none, or one is not known."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    mean = statistics.geometric_mean(known) if geometric else statistics.fmean(known)
    return Mark(mean, seeds=tuple(known))


def _draw_mark(axes: Axes, mark: Mark, y: float, style: Style) -> None:
    axes.axhline(y, color="#eeeeee", linewidth=0.6, zorder=0.5)
    if len(mark.seeds) > 1:
        axes.plot(mark.seeds, [y] * len(mark.seeds), linestyle="none", **_light(style))
    if mark.other is None:
        _draw_value(axes, mark, y, style, style.color)
    else:
        _draw_value(axes, mark, y - APART / 2, style, style.color)
        _draw_value(axes, mark.other, y + APART / 2, style, "white")


def _draw_value(axes: Axes, mark: Mark, y: float, style: Style, face: str) -> None:
    if mark.interval is not None:
        axes.plot(mark.interval, [y, y], color=style.color, linewidth=1.6, marker="|", markersize=5)
    axes.plot([mark.value], [y], markerfacecolor=face, **_solid(style))


def _solid(style: Style) -> dict[str, Any]:
    return {"marker": style.marker, "color": style.color, "markersize": MARKER, "zorder": 4}


def _light(style: Style) -> dict[str, Any]:
    return {"marker": style.marker, "color": style.color, "markersize": 4, "alpha": 0.35, "zorder": 3}


def _set_values(axes: Axes, column: Column) -> None:
    values = [value for mark in column.known for value in mark.values]
    shown = with_intervals(values, [interval for mark in column.known for interval in mark.intervals])
    if column.log:
        set_log(axes.xaxis, padded(shown, 0.12), most=NARROW)
    else:
        set_linear(axes.xaxis, widened(shown, 0.12), most=NARROW)
