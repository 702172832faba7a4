"""One line against another: whose exponent is steeper, which is ahead with more data, where they cross."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from cvfp.scaling.data_efficiency import DataRatio, data_ratios
from cvfp.scaling.documents import Losses, crossed_lines
from cvfp.scaling.draws import Estimate, StraightLine, fit_draws, full_draws, straight_line, widest
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.local_exponent import top_coefficients
from cvfp.scaling.points import Change, Points, matched
from cvfp.scaling.power_law import student_quantile
from cvfp.scaling.robustness import Flip, flips

# --- Where two lines cross.


CrossoverStatus = Literal["bounded", "unbounded", "not testable", "not said"]


@dataclass(frozen=True)
class Crossover:
    """The tokens at which two lines have equal PPL.

    `status`: bounded; unbounded where the interval of the difference of the exponents covers 0, so that the
    lines may be parallel and cross anywhere, or never; not testable without degrees of freedom. Only a
    bounded one has an `interval`. Not said, where the power law of one of the lines is not adequate
    (`cvfp.scaling.outlook`). `tokens` is None where the lines are parallel; it and an upper end also beyond
    the range of a float.
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


# --- The difference of two lines, and what may be said of it.


AHEAD = 10
"""Times the largest common size at which two lines are compared."""

DifferenceVerdict = Literal["first falls faster", "second falls faster", "not distinguishable", "no verdict"]


@dataclass(frozen=True)
class Difference:
    """The second line minus the first, as power laws of PPL.

    `exponent` is alpha_2 - alpha_1: above 0 the first falls faster. Paired, it is the exponent of PPL_2 /
    PPL_1 at equal sizes, draws and tokens: what both share drops out. Unpaired, the errors of the two add up.
    """

    paired: bool
    n: int
    """Pairs; unpaired, points of both."""
    exponent: Estimate
    ahead_tokens: float
    """10 times the largest size of either."""
    first_ahead: float | None
    """P(PPL_1 < PPL_2 at `ahead_tokens`) of the laws, Student's t; of one draw it knows the deviation from
    straight lines only. None without degrees of freedom."""
    crossover: Crossover
    flips: tuple[Flip, ...]
    """Sizes without which, or roundings with which, the sign of the exponent's difference is another."""
    data: tuple[DataRatio, ...]
    """With how many times the data the second reaches the PPL of the first, at each size of the first."""

    @property
    def verdict(self) -> DifferenceVerdict:
        """This is `points.Change.distinguishable`: one draw never tells two lines apart."""
        told = Change(self.exponent.value, self.exponent.interval, self.n, self.exponent.kind).distinguishable
        if told is None:
            return "no verdict"
        if not told:
            return "not distinguishable"
        return "first falls faster" if self.exponent.value > 0 else "second falls faster"


def difference(one: LineAnalysis, other: LineAnalysis, losses: Losses | None = None) -> Difference:
    """Compare two lines: paired where they share two sizes with equal draws and tokens, else unpaired.

    Args:
        one, other: the first and the second line, copies of other draws' results included: pairs tell
            whether one is needed.
        losses: of the same two lines, paired: then what is said of pairs is over test documents too.

    Raises:
        InputError: as `draws.fit_draws`.
    """
    first, second = one.points, other.points
    pairs = _pairs(first, second)
    largest = math.log(AHEAD) + float(max(first.log_tokens.max(), second.log_tokens.max()))
    data = tuple(data_ratios(second, first))
    if len(np.unique(first.tokens[[i for i, _ in pairs]])) < 2:
        lines = [straight_line(each.law) for each in (one, other)]
        n = len(first.tokens) + len(second.tokens)
        return _gated(_difference([lines[1].minus(lines[0])], False, n, largest, (), data), one, other)
    mine, theirs = (np.array(indices) for indices in zip(*pairs, strict=True))
    ratio = Points(
        first.tokens[mine], second.ppl[theirs] / first.ppl[mine], first.sizes[mine], first.kept(mine).draws
    )
    half = None
    if one.half_units is not None and other.half_units is not None:
        half = one.half_units[mine] + other.half_units[theirs]
    if losses is None:
        lines = [straight_line(fit_draws(ratio.tokens, ratio.ppl, ratio.draws))]
    else:
        lines = crossed_lines(losses)
    found = flips(ratio, half, {"sign of the difference": signs})
    return _gated(_difference(lines, True, len(pairs), largest, tuple(found), data), one, other)


def _gated(found: Difference, one: LineAnalysis, other: LineAnalysis) -> Difference:
    """The difference without what is beyond the data, unless the power law of both is adequate."""
    if all(each.outlook.fits("ppl_power") for each in (one, other)):
        return found
    return replace(found, first_ahead=None, crossover=Crossover("not said", None, None))


def signs(points: Points, rows: np.ndarray) -> list[str]:
    """Which line falls faster, for each row (m, n) of values of ln(PPL_2 / PPL_1), by the interval alone."""
    words = {
        None: "not testable",
        0: "not distinguishable",
        1: "first falls faster",
        -1: "second falls faster",
    }
    return [words[None if one is None else one.sign] for one in top_coefficients(points, rows, 1)]


def _difference(
    lines: Sequence[StraightLine],
    paired: bool,
    n: int,
    largest: float,
    found: tuple[Flip, ...],
    data: tuple[DataRatio, ...],
) -> Difference:
    """The difference of one line by the errors of each source: what is said of anything is by its widest
    interval."""
    ahead = widest([line.at(largest) for line in lines]).probability_positive
    exponent = widest([line.exponent for line in lines])
    return Difference(paired, n, exponent, math.exp(largest), ahead, crossover(lines), found, data)


def _pairs(first: Points, second: Points) -> list[tuple[int, int]]:
    """Indices of points of equal size, draw and tokens, without copies and of `full_draws` alone."""
    found = reversed(matched(first, second))
    results = {(first.sizes[i], first.ppl[i], second.ppl[j]): (i, j) for i, j in found}
    pairs = sorted(results.values())
    full = full_draws([float(first.tokens[i]) for i, _ in pairs], [first.draws[i] for i, _ in pairs])
    return [(i, j) for i, j in pairs if not full or first.draws[i] in full]
