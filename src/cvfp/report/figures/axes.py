"""Limits and ticks of axes: logarithmic from a few per cent to many decades, linear with few labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from cvfp.report.numbers import short_count

Limits = tuple[float, float]

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
NARROW = 3
"""Labels at most on an axis of an inch and a half."""
FURTHEST_INTERVAL = 0.6
"""An interval reaches at least this share of the largest |value| beyond the values before it is cut off."""


def log_ticks(low: float, high: float, fewest: int = FEWEST, most: int = MOST) -> list[float]:
    """Round numbers in [low, high], about evenly spaced on a logarithmic axis.

    The coarsest steps of `MANTISSAS` that give at least `fewest`; a range too narrow for all of them gets
    evenly spaced round numbers, one too wide every second (third, ...) decade.
    """
    for mantissas in MANTISSAS:
        ticks = _in_range(mantissas, low, high)
        if len(ticks) >= fewest:
            return ticks[:: math.ceil(len(ticks) / most)]
    return linear_ticks(low, high, min(6, most))


def linear_ticks(low: float, high: float, intervals: int = 6) -> list[float]:
    """Evenly spaced round numbers in [low, high], at most `intervals` apart and one more."""
    ticks = MaxNLocator(nbins=intervals, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def padded(values: Iterable[float], share: float) -> Limits:
    """(low, high) of positive values, widened at both ends by `share` of their logarithmic range."""
    known = list(values)
    low, high = math.log(min(known)), math.log(max(known))
    margin = max(share * (high - low), 0.02)
    return math.exp(low - margin), math.exp(high + margin)


def widened(values: Iterable[float], share: float) -> Limits:
    """(low, high) of values, widened at both ends by `share` of their range (of |value| when all are equal)."""
    known = list(values)
    low, high = min(known), max(known)
    margin = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - margin, high + margin


def with_intervals(values: Sequence[float], intervals: Iterable[Limits | None]) -> list[float]:
    """The values and the ends of their 95% intervals, those far outside moved in.

    Three points of a line give intervals a hundred times as wide as what there is to see: an interval that
    is cut off runs to the edge of its panel.
    """
    low, high = min(values), max(values)
    reach = max(3 * (high - low), FURTHEST_INTERVAL * max(abs(low), abs(high)))
    ends = [end for interval in intervals if interval is not None for end in interval]
    return [*values, *np.clip(ends, low - reach, high + reach).tolist()]


def set_log(axis: Axis, limits: Limits, narrow: bool = False) -> None:
    """A logarithmic axis with a few round counts."""
    counts = {"fewest": 2, "most": NARROW} if narrow else {}
    _dress(axis, "log", limits, log_ticks(*limits, **counts), short_count)


def set_linear(
    axis: Axis, limits: Limits, narrow: bool = False, written: Callable[[float], str] | None = None
) -> None:
    """A linear axis with a few round numbers."""
    ticks = linear_ticks(*limits, NARROW - 1 if narrow else 6)
    _dress(axis, "linear", limits, ticks, written or decimals(ticks))


def set_ticks(axis: Axis, ticks: Sequence[float], labels: Sequence[str]) -> None:
    """These ticks and no other."""
    axis.set_ticks(list(ticks), list(labels))
    axis.set_ticks([], minor=True)


def decimals(ticks: Sequence[float]) -> Callable[[float], str]:
    """Writes numbers with as many decimals as tell these apart, and a true minus sign."""
    step = min(np.diff(ticks), default=1.0)
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    return lambda value: f"{value:.{places}f}".replace("-", "−")


def _dress(
    axis: Axis, scale: str, limits: Limits, ticks: Sequence[float], written: Callable[[float], str]
) -> None:
    name = axis.axis_name
    axis.axes.set(**{f"{name}scale": scale, f"{name}lim": limits})
    set_ticks(axis, ticks, [written(tick) for tick in ticks])


def _in_range(mantissas: tuple[float, ...], low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas)
    return [tick for tick in ticks if low <= tick <= high]
