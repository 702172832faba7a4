"""The local exponent: power laws of sliding windows of consecutive sizes, and how they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import Number, Numbers, PowerLaw, fit_power_law

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
    law: PowerLaw


@dataclass(frozen=True)
class Progression:
    """Change of the exponent from the first window to the last, in units and in percent of |first|."""

    alpha_change: float
    alpha_change_percent: float
    trend: Trend


def sliding_windows(
    tokens: Numbers, ppl: Numbers, window_size: int, sizes: Numbers | None = None
) -> list[Window]:
    """One window per run of `window_size` consecutive sizes, smallest first; none if there are fewer sizes.

    Args:
        tokens: training tokens of each point, (n,).
        ppl: perplexity of each point, (n,).
        window_size: sizes per window, at least 2.
        sizes: what makes two points the same size, (n,): the number of samples when draws of one size
            differ in tokens. None: the tokens themselves.

    Raises:
        InputError: a window size below 2, unequal lengths, or as `fit_power_law`.
    """
    if window_size < 2:
        raise InputError(f"window: must be at least 2 sizes, got {window_size}")
    tokens, ppl = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    size_of = tokens if sizes is None else np.asarray(sizes)
    if not len(tokens) == len(ppl) == len(size_of):
        raise InputError(
            f"one size per point is needed, got {len(size_of)} for {len(tokens)} and {len(ppl)} values"
        )
    distinct = np.unique(size_of)
    spans = zip(distinct, distinct[window_size - 1 :], strict=False)
    return [_window(tokens, ppl, size_of, first, last) for first, last in spans]


def _window(tokens: np.ndarray, ppl: np.ndarray, size_of: np.ndarray, first, last) -> Window:
    inside = (size_of >= first) & (size_of <= last)
    return Window(
        size_range=(first.item(), last.item()),
        token_range=(float(tokens[inside].min()), float(tokens[inside].max())),
        law=fit_power_law(tokens[inside], ppl[inside]),
    )


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
