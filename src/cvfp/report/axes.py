"""Ticks and limits of logarithmic axes, for ranges from a few per cent to many decades."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.ticker import MaxNLocator

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


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers in [low, high], about evenly spaced on a logarithmic axis.

    The coarsest steps of `MANTISSAS` that give at least `FEWEST`; a range too narrow for all of them gets
    evenly spaced round numbers, one too wide every second (third, ...) decade.
    """
    for mantissas in MANTISSAS:
        ticks = _in_range(mantissas, low, high)
        if len(ticks) >= FEWEST:
            return ticks[:: math.ceil(len(ticks) / MOST)]
    ticks = MaxNLocator(nbins=6, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in ticks if low <= tick <= high]


def padded(values: np.ndarray, share: float) -> tuple[float, float]:
    """(low, high) of positive values, widened at both ends by `share` of their logarithmic range."""
    low, high = math.log(float(values.min())), math.log(float(values.max()))
    margin = max(share * (high - low), 0.02)
    return math.exp(low - margin), math.exp(high + margin)


def _in_range(mantissas: tuple[float, ...], low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = (mantissa * 10.0**decade for decade in decades for mantissa in mantissas)
    return [tick for tick in ticks if low <= tick <= high]
