"""Data efficiency: with how many times the training tokens one line reaches the loss of another.

At a size D of the other line it is D' / D, D' being where the line reaches the other's loss there: below 1 it
needs less data. D' is read between two neighbouring sizes of the line, where ln PPL is taken to be straight
in ln D; beyond its smallest and largest size it is not known, only on which side it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.scaling.draws import Estimate, across_draws
from cvfp.scaling.points import Points

Reached = Literal["measured", "before", "never", "differs"]
"""The line has that loss between two of its sizes; already at its smallest size; not yet at its largest one;
or draws differ in which of these it is."""


@dataclass(frozen=True)
class DataRatio:
    """D' / D at one size of the other line, the geometric mean over the draws that both have.

    `ratio` and its 95% Student-t `interval` over draws are None unless `reached` is "measured"; the interval
    is None with one draw too. `bound` is the smallest size of the line over D where it is "before", the
    largest where it is "never".
    """

    size: int | float
    tokens: float
    """D, the mean over draws."""
    reached: Reached
    ratio: float | None
    interval: tuple[float, float] | None
    bound: float | None
    draws: int


def data_ratios(line: Points, other: Points) -> list[DataRatio]:
    """The ratio at every size of `other` that has a draw in common with `line`, smallest size first."""
    own = line.by_draw()
    curves = {
        draw: own.kept(np.array([each == draw for each in own.draws])) for draw in dict.fromkeys(own.draws)
    }
    rivals = other.by_draw()
    found = []
    for size in rivals.distinct_sizes:
        cells = rivals.of_sizes([size])
        shared = [index for index, draw in enumerate(cells.draws) if draw in curves]
        if shared:
            reached = [
                _reached(curves[cells.draws[i]], float(cells.log_tokens[i]), float(cells.log_ppl[i]))
                for i in shared
            ]
            found.append(_over_draws(size, float(cells.tokens[shared].mean()), reached))
    return found


def _reached(curve: Points, log_tokens: float, log_ppl: float) -> tuple[Reached, float]:
    """ln(D' / D) on the curve of one draw, or of the end of the curve that D' is beyond."""
    order = np.argsort(curve.log_tokens)
    x, y = curve.log_tokens[order] - log_tokens, curve.log_ppl[order]
    low = np.flatnonzero(y <= log_ppl)
    if len(low) == 0:
        return "never", float(x[-1])
    first = int(low[0])
    if first == 0:
        return "measured" if y[0] == log_ppl else "before", float(x[0])
    share = (y[first - 1] - log_ppl) / (y[first - 1] - y[first])
    return "measured", float(x[first - 1] + share * (x[first] - x[first - 1]))


def _over_draws(size: int | float, tokens: float, found: list[tuple[Reached, float]]) -> DataRatio:
    kinds = {kind for kind, _value in found}
    values = [value for _kind, value in found]
    if len(kinds) > 1:
        return DataRatio(size, tokens, "differs", None, None, None, len(values))
    kind, mean = found[0][0], float(np.exp(np.mean(values)))
    if kind != "measured":
        return DataRatio(size, tokens, kind, None, None, mean, len(values))
    spread: Estimate | None = across_draws(values) if len(values) > 1 else None
    ends = None if spread is None else spread.interval
    interval = None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))
    return DataRatio(size, tokens, kind, mean, interval, None, len(values))
