"""Where two lines cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cvfp.scaling.power_law import student_quantile
from cvfp.scaling.straight_line import StraightLine

CrossoverStatus = Literal["bounded", "unbounded", "not testable"]


@dataclass(frozen=True)
class Crossover:
    """The tokens at which two lines have equal PPL.

    `status`: bounded; unbounded where the interval of the difference of the exponents covers 0, so that the
    lines may be parallel and cross anywhere, or never; not testable without degrees of freedom. Only a
    bounded one has an `interval`. `tokens` is None where the lines are parallel; it and an upper end also
    beyond the range of a float.
    """

    status: CrossoverStatus
    tokens: float | None
    interval: tuple[float | None, float | None] | None


def crossover(differences: Sequence[StraightLine]) -> Crossover:
    """Where a difference of two lines is 0: one line by the errors of each source (`crossed_lines`).

    The interval covers those of all: where the widest interval of the difference covers 0.
    """
    found = [_crossover(one) for one in differences]
    open_ended = next((one for one in found if one.interval is None), None)
    if open_ended is not None:
        return open_ended
    lows, highs = zip(*(one.interval for one in found), strict=True)
    low = min((end for end in lows if end is not None), default=None)
    return Crossover("bounded", found[0].tokens, (low, None if None in highs else max(highs)))


def _crossover(difference: StraightLine) -> Crossover:
    """Fieller's 95% interval (1954).

    The set of x = ln D with (h + b * x)^2 <= t^2 * Var(h + b * x), h and b the height and slope of the
    difference: a quadratic in x. It is an interval exactly where that of b excludes 0.
    """
    if difference.slope == 0:
        tokens = None
    else:
        tokens = _tokens(difference.centre - difference.height / difference.slope)
    if difference.covariance is None:
        return Crossover("not testable", tokens, None)
    h, b, V = difference.height, difference.slope, difference.covariance
    t2 = student_quantile(0.95, difference.dof) ** 2
    square, half, constant = b * b - t2 * V[1, 1], h * b - t2 * V[0, 1], h * h - t2 * V[0, 0]
    if square <= 0:
        return Crossover("unbounded", tokens, None)
    root = math.sqrt(max(half * half - square * constant, 0.0))
    low, high = (_tokens(difference.centre + (-half + side * root) / square) for side in (-1, 1))
    return Crossover("bounded", tokens, (low, high))


def _tokens(log_tokens: float) -> float | None:
    try:
        return math.exp(log_tokens)
    except OverflowError:
        return None
