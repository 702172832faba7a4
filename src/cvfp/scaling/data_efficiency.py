"""Data efficiency: with how many times the training tokens one line reaches the loss of another.

At a size D of the other line it is D' / D, D' being where the line reaches the other's loss there: below 1 it
needs less data. D' is read between two neighbouring sizes of the line, where ln PPL is taken to be straight
in ln D; beyond its smallest and largest size it is not known, only on which side it is.

Where the curve of a draw ends before, it goes on with the slope of its last two sizes, for one step at most,
and the mean over draws has to lie within the sizes. To take only the draws that get there would pick the
lucky ones: of two equal lines the better would need a tenth less data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.scaling.draws import across_draws
from cvfp.scaling.points import Points

Reached = Literal["measured", "before", "never", "differs"]
"""The line has that loss between two of its sizes; already at its smallest size; not yet at its largest one;
or draws differ in which of these it is, by more than a step."""


ROUNDING = 1e-9
"""Of ln(D' / D): so close to an end of the sizes is on it."""


@dataclass(frozen=True)
class DataRatio:
    """D' / D at one size of the other line, the geometric mean over the draws that both have.

    `ratio` and its 95% Student-t `interval` over draws are None unless `reached` is "measured"; the interval
    is None with one draw too. `bound` is the smallest size of the line over D where it is "before", the
    largest where it is "never". `draws` counts those with results of their own.
    """

    size: int | float
    tokens: float
    """D, the mean over draws."""
    reached: Reached
    ratio: float | None
    interval: tuple[float, float] | None
    bound: float | None
    draws: int


@dataclass(frozen=True)
class _Read:
    """ln(D' / D) on the curve of one draw, infinite where that is out of reach, and the ends of the curve."""

    value: float
    low: float
    high: float


def data_ratios(line: Points, other: Points) -> list[DataRatio]:
    """The ratio at every size of `other` that has a draw in common with `line`, smallest size first.

    Of `line` the draws with its smallest and its largest size count. Draws with the same result are one: an
    arm that the seed cannot affect has no interval.
    """
    own, rivals, found = line.by_draw(), other.by_draw(), []
    smallest, largest = min(own.distinct_sizes), max(own.distinct_sizes)
    every = {draw: own.kept(np.array([each == draw for each in own.draws])) for draw in own.draws}
    curves = {
        draw: curve
        for draw, curve in every.items()
        if smallest < largest and {smallest, largest} <= set(curve.distinct_sizes)
    }
    for size in rivals.distinct_sizes:
        cells = rivals.of_sizes([size])
        shared = [index for index, draw in enumerate(cells.draws) if draw in curves]
        if shared:
            read = {}
            for i in shared:
                log_ppl = float(cells.log_ppl[i])
                one = _read(curves[cells.draws[i]], float(cells.log_tokens[i]), log_ppl)
                read[one, log_ppl] = one  # a copy has both
            found.append(_over_draws(size, float(cells.tokens[shared].mean()), list(read.values())))
    return found


def _read(curve: Points, log_tokens: float, log_ppl: float) -> _Read:
    """Where the curve of one draw first has this ln PPL."""
    order = np.argsort(curve.log_tokens)
    x, y = (curve.log_tokens[order] - log_tokens).tolist(), curve.log_ppl[order].tolist()
    first = next((index for index, each in enumerate(y) if each <= log_ppl), None)
    if first is None:
        value = _beyond(x[-1], y[-1], x[-2], y[-2], log_ppl)
    elif first == 0:
        value = x[0] if y[0] == log_ppl else _beyond(x[0], y[0], x[1], y[1], log_ppl)
    else:
        share = (y[first - 1] - log_ppl) / (y[first - 1] - y[first])
        value = x[first - 1] + share * (x[first] - x[first - 1])
    return _Read(value, x[0], x[-1])


def _beyond(x: float, y: float, near_x: float, near_y: float, log_ppl: float) -> float:
    """Where the line through the end (x, y) and its neighbour has it, one step beyond the end at most."""
    step = x - near_x
    steps = (log_ppl - y) / (y - near_y) if y != near_y else math.inf
    return x + steps * step if 0 <= steps <= 1 else math.copysign(math.inf, step)


def _over_draws(size: int | float, tokens: float, found: list[_Read]) -> DataRatio:
    values = np.array([one.value for one in found])
    low, high = (float(np.mean([getattr(one, end) for one in found])) for end in ("low", "high"))
    if np.isinf(values).any() and not (values == values[0]).all():
        return DataRatio(size, tokens, "differs", None, None, None, len(values))
    mean = float(values.mean()) if np.isfinite(values).all() else float(values[0])
    if not low - ROUNDING <= mean <= high + ROUNDING:
        reached, bound = ("before", low) if mean < low else ("never", high)
        return DataRatio(size, tokens, reached, None, None, math.exp(bound), len(values))
    ends = across_draws(values).interval if len(values) > 1 else None
    interval = None if ends is None else (math.exp(ends[0]), math.exp(ends[1]))
    return DataRatio(size, tokens, "measured", math.exp(mean), interval, None, len(values))
