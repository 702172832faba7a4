"""Whether the exponent changes with size: the exponents of windows, and between neighbours; curvature.

All are power laws or polynomials of ln D that ln PPL follows, over a part of a line or the whole of it.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.draws import Estimate, Law, MeanLaw, across_draws, along_line, fit_draws
from cvfp.scaling.forms import ROUNDING
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number, Numbers, fit_power_law

# --- The highest coefficient of a polynomial of ln D that ln PPL follows: slopes and curvatures of many rows.


def top_coefficients(points: Points, rows: np.ndarray, degree: int) -> list[Estimate | None]:
    """q of ln PPL = ... + q * x^degree, x = ln D, by least squares, for each row of `rows`.

    q = w . ln PPL with w = z / (z . z), z being x^degree without its part in the lower powers. Several draws
    (`Points.units`): one q each, and Student's t across them. One: q -+ t * s / sqrt(z . z), with s^2 = RSS /
    (n - degree - 1) and t at as many degrees of freedom; it holds for independent, equal noise.

    Args:
        points: of one line.
        rows: values of ln PPL at these points, nats, (m, n).
        degree: 1 for the exponent, 2 for the curvature.

    Returns:
        One per row; None where the units have no more sizes than `degree`.
    """
    units = points.units(degree + 1)
    distinct = [len(np.unique(values[unit])) for unit in units for values in (points.sizes, points.tokens)]
    if min(distinct) <= degree:
        return [None] * len(rows)
    fits = [_fit(points.log_tokens[unit], rows[:, unit], degree) for unit in units]
    if len(fits) > 1:
        return [across_draws(values) for values in np.stack([q for q, _ in fits], axis=1)]
    ((values, variances),) = fits
    dof = len(units[0]) - degree - 1
    return [along_line(float(q), float(v), dof) for q, v in zip(values, variances, strict=True)]


def top_weights(log_tokens: np.ndarray, degree: int) -> np.ndarray:
    """w (n,) with q = w . ln PPL along one line."""
    z = _top_part(*_powers(log_tokens, degree))
    return z / (z @ z)


def _fit(x: np.ndarray, y: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """q (m,) and the variance of its error (m,); 0 degrees of freedom are taken for 1."""
    lower, top = _powers(x, degree)
    z = _top_part(lower, top)
    q = y @ z / (z @ z)
    residuals = y - y @ lower @ lower.T - np.outer(q, z)
    return q, (residuals**2).sum(axis=1) / max(len(x) - degree - 1, 1) / (z @ z)


def _powers(x: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (n, degree) of the powers of x below `degree`, and (x - mean)^degree, (n,)."""
    centred = x - x.mean()
    return np.linalg.qr(np.vander(centred, degree, increasing=True))[0], centred**degree


def _top_part(lower: np.ndarray, top: np.ndarray) -> np.ndarray:
    return top - lower @ (lower.T @ top)


# --- The local exponent: power laws of sliding windows of consecutive sizes, and how they change.


TREND_THRESHOLD = 0.01
"""Change of alpha beyond which an exponent is called degrading or improving: the source report's rule."""

Trend = Literal["degrading", "improving", "stable"]


@dataclass(frozen=True)
class Window:
    """The law of all points whose size is one of `window_size` consecutive sizes.

    `size_range` and `token_range` are the smallest and largest in the window.
    """

    size_range: tuple[Number, Number]
    token_range: tuple[float, float]
    law: Law
    missing: tuple[Number, ...] = ()
    """Known sizes between its ends that have no point: the window bridges them."""


@dataclass(frozen=True)
class Progression:
    """Change of the exponent from the first window to the last, in units and in percent of |first|."""

    alpha_change: float
    alpha_change_percent: float
    trend: Trend


def sliding_windows(
    tokens: Numbers,
    ppl: Numbers,
    window_size: int,
    sizes: Numbers | None = None,
    draws: Sequence[Hashable] | None = None,
    known_sizes: Collection[Number] = (),
) -> list[Window]:
    """One window per run of `window_size` consecutive sizes, smallest first; none if there are fewer sizes.

    Args:
        tokens: training tokens of each point, (n,).
        ppl: perplexity of each point, (n,).
        window_size: sizes per window, at least 2.
        sizes: what makes two points the same size, (n,): the number of samples when draws of one size
            differ in tokens. None: the tokens themselves.
        draws: the draw of each point, (n,), for `fit_draws`. None: one draw.
        known_sizes: all sizes that there should be points of, to mark windows that bridge some.

    Raises:
        InputError: a window size below 2, unequal lengths, or as `fit_power_law`.
    """
    if window_size < 2:
        raise InputError(f"window: must be at least 2 sizes, got {window_size}")
    tokens, ppl = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    size_of = tokens if sizes is None else np.asarray(sizes)
    draw_of = [None] * len(tokens) if draws is None else list(draws)
    if not len(tokens) == len(ppl) == len(size_of) == len(draw_of):
        raise InputError(
            f"one size per point is needed, got {len(size_of)} for {len(tokens)} and {len(ppl)} values"
        )
    distinct = np.unique(size_of)
    missing = sorted(set(known_sizes) - set(distinct.tolist()))
    windows = []
    for first, last in zip(distinct, distinct[window_size - 1 :], strict=False):
        inside = np.flatnonzero((size_of >= first) & (size_of <= last))
        window = Window(
            size_range=(first.item(), last.item()),
            token_range=(float(tokens[inside].min()), float(tokens[inside].max())),
            law=fit_draws(tokens[inside], ppl[inside], [draw_of[index] for index in inside]),
            missing=tuple(size for size in missing if first < size < last),
        )
        windows.append(window)
    return windows


def change_interval(
    tokens: Numbers, ppl: Numbers, sizes: Numbers, windows: Sequence[Window]
) -> tuple[float, float] | None:
    """95% Student-t interval of the change of alpha from the first window to the last.

    Several draws: across the changes of the draws; None when the two windows have not the same draws. One
    draw: the change is sum(w * ln PPL) with w = w_last - w_first, the least-squares weights of the two slopes
    (0 outside the window). A straight line has none of it, so w is one more regressor beside the line, and
    change -+ t * s * sqrt(sum(w^2)) with s^2 = (RSS - change^2 / sum(w^2)) / (n - 3), RSS that of the line of
    all points, t at n - 3 degrees of freedom; None when n < 4. (s^2 = RSS / (n - 2) would contain the change
    itself and hardly ever exclude 0.) It holds for independent, equal noise of ln PPL.

    Args:
        tokens, ppl, sizes: of all points of the line, (n,), as for `sliding_windows`.
        windows: at least two.
    """
    first, last = windows[0], windows[-1]
    if isinstance(first.law, MeanLaw) and isinstance(last.law, MeanLaw):
        if first.law.laws.keys() != last.law.laws.keys():
            return None
        changes = [last.law.laws[draw].alpha - law.alpha for draw, law in first.law.laws.items()]
        return across_draws(changes).interval
    if isinstance(first.law, MeanLaw) or isinstance(last.law, MeanLaw):
        return None
    law = fit_power_law(tokens, ppl)
    if law.residual_variance is None or law.n < 4:
        return None
    weights = _slope_weights(tokens, sizes, last) - _slope_weights(tokens, sizes, first)
    change, norm = last.law.alpha - first.law.alpha, float(weights @ weights)
    rss = max(law.residual_variance * (law.n - 2) - change**2 / norm, 0.0)
    return along_line(change, rss / (law.n - 3) * norm, law.n - 3).interval


def _slope_weights(tokens: Numbers, sizes: Numbers, window: Window) -> np.ndarray:
    """w with sum(w * ln PPL) = alpha of the window: (x - mean x) / SS of x = ln tokens inside it, else 0."""
    x, size_of = np.log(np.asarray(tokens, dtype=np.float64)), np.asarray(sizes)
    inside = (size_of >= window.size_range[0]) & (size_of <= window.size_range[1])
    centred = np.where(inside, x - x[inside].mean(), 0.0)
    return centred / (centred @ centred)


def progression(alphas: Sequence[Number]) -> Progression:
    """Last minus first exponent; degrading above +0.01, improving below -0.01, else stable.

    The percentage is 0 when the first exponent is exactly 0, of which nothing is a percentage.

    Raises:
        InputError: fewer than two exponents.
    """
    if len(alphas) < 2:
        raise InputError(f"a change of the exponent needs at least two windows, got {len(alphas)}")
    first, change = alphas[0], alphas[-1] - alphas[0]
    percent = 100 * change / abs(first) if first != 0 else 0.0
    return Progression(change, percent, _trend(change))


def _trend(change: float) -> Trend:
    if change > TREND_THRESHOLD:
        return "degrading"
    return "improving" if change < -TREND_THRESHOLD else "stable"


# --- Does the exponent change with size: a test, and the exponent between neighbouring sizes.


Bend = Literal["curved", "straight within error", "not testable"]


def curvature(points: Points) -> Estimate | None:
    """The coefficient of (ln D)^2 in ln PPL (`top_coefficients`): positive where the law flattens.

    None where the units of inference (`Points.units`) have fewer than three sizes.
    """
    return top_coefficients(points, points.log_ppl[None], 2)[0]


def bend(estimate: Estimate | None) -> Bend:
    """The verdict on a `curvature`, from its 95% interval; what is no more than rounding is no curve.

    With a single degree of freedom the interval reaches 12.7 errors to either side: that it holds 0 says
    nothing.
    """
    if estimate is None or estimate.sign is None:
        return "not testable"
    if estimate.sign != 0 and abs(estimate.value) > ROUNDING:
        return "curved"
    return "straight within error" if estimate.dof > 1 or estimate.error == 0 else "not testable"


def bends(points: Points, rows: np.ndarray) -> list[str]:
    """The verdict for each row (m, n) of values of ln PPL at these points."""
    return [bend(estimate) for estimate in top_coefficients(points, rows, 2)]


@dataclass(frozen=True)
class LocalExponent:
    """The slope of ln PPL on ln D between two neighbouring sizes; None where their tokens do not differ."""

    size_range: tuple[int | float, int | float]
    token_range: tuple[float, float]
    exponent: Estimate | None


def local_exponents(points: Points) -> list[LocalExponent]:
    """One per two neighbouring sizes, smallest first; its interval is across draws, with one draw there is
    none.

    Unlike a window it asks for no factor A, which is beyond a float where two sizes are close together.
    """
    return [_between(points.of_sizes(ends), ends) for ends in pairwise(points.distinct_sizes)]


def _between(points: Points, ends: tuple[int | float, int | float]) -> LocalExponent:
    token_range = float(points.tokens.min()), float(points.tokens.max())
    return LocalExponent(ends, token_range, top_coefficients(points, points.log_ppl[None], 1)[0])
