"""Axes, logarithmic from a few per cent to many decades or linear with few labels; panels in a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from cvfp.report.figures.style import drawable
from cvfp.report.numbers import Number, short_count

Axis = XAxis | YAxis
Limits = tuple[Number, Number]

MANTISSAS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
)
"""Steps within a decade, coarse to fine."""
FEWEST, MOST = 4, 9
"""Labels that an axis should have."""
ROOM = 0.14
"""Of a label, as a share of an axis of about three inches."""
FURTHEST_INTERVAL = 0.6
"""An interval reaches at least this share of the largest |value| beyond the values before it is cut off."""


def log_ticks(low: Number, high: Number, fewest: int = FEWEST, most: int = MOST) -> list[float]:
    """Round numbers in [low, high], about evenly spaced on a logarithmic axis.

    The coarsest steps of `MANTISSAS` that give at least `fewest`; a range too narrow for all of them gets
    evenly spaced round numbers, one too wide every second (third, ...) decade.
    """
    for mantissas in MANTISSAS:
        ticks = _in_range(mantissas, low, high)
        if len(ticks) >= fewest:
            return ticks[:: math.ceil(len(ticks) / most)]
    return linear_ticks(low, high, min(6, most))


def linear_ticks(low: Number, high: Number, intervals: int = 6) -> list[float]:
    """Evenly spaced round numbers in [low, high], at most `intervals` apart and one more."""
    ticks = MaxNLocator(nbins=intervals, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def padded(values: Iterable[Number], share: float) -> Limits:
    """(low, high) of positive values, widened at both ends by `share` of their logarithmic range."""
    known = list(values)
    low, high = math.log(min(known)), math.log(max(known))
    margin = max(share * (high - low), 0.02)
    return math.exp(low - margin), math.exp(high + margin)


def widened(values: Iterable[Number], share: float) -> Limits:
    """(low, high) of values, widened at both ends by `share` of their range (equal ones: by a tenth)."""
    known = list(values)
    low, high = min(known), max(known)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def with_intervals(values: Sequence[Number], intervals: Iterable[Limits | None]) -> list[Number]:
    """The values and the ends of their 95% intervals, those far outside moved in.

    Three points of a line give intervals a hundred times as wide as what there is to see: an interval that
    is cut off runs to the edge of its panel.
    """
    low, high = min(values), max(values)
    reach = max(3 * (high - low), FURTHEST_INTERVAL * max(abs(low), abs(high)))
    ends = [end for interval in intervals if interval is not None for end in interval]
    return [*values, *np.clip(ends, low - reach, high + reach).tolist()]


def set_log(axis: Axis, limits: Limits, most: int = MOST) -> None:
    """A logarithmic axis with a few round counts, at most `most`."""
    _dress(axis, "log", limits, log_ticks(*limits, min(FEWEST, max(2, most - 2)), most), short_count)


def set_linear(axis: Axis, limits: Limits, most: int = 7) -> None:
    """A linear axis with a few round numbers, at most `most`."""
    ticks = linear_ticks(*limits, most - 1)
    _dress(axis, "linear", limits, ticks, decimals(ticks))


def set_log_at(axis: Axis, limits: Limits, places: Sequence[Number], labels: Sequence[str]) -> None:
    """A logarithmic axis labelled at sorted places where they have room, else at round counts."""
    set_log(axis, limits, most=5)
    if _apart(np.log(places), math.log(limits[1] / limits[0])):
        set_ticks(axis, places, labels)


def set_linear_at(axis: Axis, limits: Limits, places: Sequence[Number], labels: Sequence[str]) -> None:
    """A linear axis labelled at sorted places where they have room, else at round numbers."""
    set_linear(axis, limits)
    if _apart(np.asarray(places, dtype=np.float64), limits[1] - limits[0]):
        set_ticks(axis, places, labels)


def set_ticks(axis: Axis, ticks: Sequence[Number], labels: Sequence[str]) -> None:
    """These ticks and no other."""
    axis.set_ticks(list(ticks), list(labels))
    axis.set_ticks([], minor=True)


def decimals(ticks: Sequence[Number]) -> Callable[[Number], str]:
    """Writes numbers with as many decimals as tell these apart, and a true minus sign."""
    step = min(np.diff(ticks), default=1.0)
    exact = (places for places in range(12) if abs(round(step, places) - step) < 1e-6 * step)
    places = next(exact, 12)
    return lambda value: f"{value:.{places}f}".replace("-", "−")


def _dress(
    axis: Axis, scale: str, limits: Limits, ticks: Sequence[Number], written: Callable[[Number], str]
) -> None:
    # Limits first: a scale that is set on an axis without limits looks for some of its own.
    getattr(axis.axes, f"set_{axis.axis_name}lim")(*limits)
    getattr(axis.axes, f"set_{axis.axis_name}scale")(scale)
    set_ticks(axis, ticks, [written(tick) for tick in ticks])


def _apart(places: np.ndarray, span: float) -> bool:
    """Whether each has room for a label of its own on an axis of this span."""
    return bool((np.diff(places) >= ROOM * span).all())


def _in_range(mantissas: tuple[float, ...], low: Number, high: Number) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas)
    return [tick for tick in ticks if low <= tick <= high]


# --- Panels in a grid, titled, that may share their axes.


COLUMNS = {1: 1, 2: 2, 4: 2}
"""Of a grid by the number of panels; others have three."""


def grid_shape(count: int) -> tuple[int, int]:
    """(rows, columns) of `count` panels."""
    columns = COLUMNS.get(count, 3)
    return math.ceil(count / columns), columns


def panel_grid(
    figure: Figure | SubFigure, titles: list[str], sharex: bool = True, sharey: bool = True
) -> list[Axes]:
    """One panel per title, row by row; where axes are shared only the outer ones are labelled."""
    rows, columns = grid_shape(len(titles))
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    panels = list(grid.flat)
    for unused in panels[len(titles) :]:
        unused.remove()
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(drawable(title), loc="left", fontweight="bold")
    return panels[: len(titles)]


def label_outer(panels: list[Axes], xlabel: str, ylabel: str, sharex: bool = True) -> None:
    """The labels that all panels share, at the first of each row and the lowest of each column.

    A panel that does not share its x axis keeps the numbers of its own.
    """
    _rows, columns = grid_shape(len(panels))
    for index, axes in enumerate(panels):
        lowest = index + columns >= len(panels)
        axes.tick_params(labelbottom=lowest or not sharex)
        axes.set_xlabel(xlabel if lowest else "")
        axes.set_ylabel(ylabel if index % columns == 0 else "")
