"""Differences between two lines, paired: the same draw of as many training documents, the same tokens.

What both sides of a pair share (the draw of documents, the test text) drops out of their difference. The draw
is the unit of inference, as in `cvfp.scaling.draws`: initialisations are averaged within it, and pairs that
repeat each other's results are one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.results import OF_ONE_DRAW, IntervalKind, PointRecord
from cvfp.scaling.cells import Cell, cells
from cvfp.scaling.draws import Law, fit_draws, lone_draws
from cvfp.scaling.estimate import across_draws

Pair = tuple[Cell, Cell]
"""What the reference line, and the other line, has on the same tokens."""


@dataclass(frozen=True)
class Change:
    """Mean change from the reference to the other line over distinct `pairs`.

    `interval` is its 95% Student-t interval over the pairs, None with one of them. `kind` is what it means:
    `line`, the deviation from a straight line over the sizes of one draw, and `documents`, what other test
    documents would give, say nothing of another draw.
    """

    value: float
    interval: tuple[float, float] | None
    pairs: int
    kind: IntervalKind = "draws"

    @property
    def one_draw(self) -> bool:
        """Whether it says nothing of other draws: without an interval, or with one of a single draw."""
        return self.interval is None or self.kind in OF_ONE_DRAW

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval excludes 0; None (no verdict) without an interval, and where one draw does."""
        if self.interval is None:
            return None
        excludes = not self.interval[0] <= 0 <= self.interval[1]
        return None if excludes and self.one_draw else excludes


def paired(reference: Sequence[PointRecord], other: Sequence[PointRecord]) -> list[Pair]:
    """The pairs of scored cells with equal `num_samples`, draw and training tokens, by size and draw."""
    known = {(cell.num_samples, cell.draw): cell for cell in cells(other)}
    pairs = [(cell, known.get((cell.num_samples, cell.draw))) for cell in cells(reference)]
    equal = [(a, b) for a, b in pairs if b and a.train_tokens and a.train_tokens == b.train_tokens]
    return sorted(equal, key=lambda pair: (pair[0].num_samples, pair[0].draw))


def at_largest_size(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the largest `num_samples`."""
    size = max((a.num_samples for a, _ in pairs), default=None)
    return [pair for pair in pairs if pair[0].num_samples == size]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """Without pairs whose two perplexities another pair at that size has: a seed that changes neither arm."""
    found: dict[tuple[int, float, float], Pair] = {}
    for a, b in pairs:
        found.setdefault((a.num_samples, a.val_ppl, b.val_ppl), (a, b))
    return list(found.values())


def ppl_change(pairs: Sequence[Pair]) -> Change:
    """Change of PPL in percent of the reference's, 100 * (exp(mean ln(b / a)) - 1), of at least one pair."""
    change = _mean([math.log(b.val_ppl / a.val_ppl) for a, b in distinct(pairs)])
    interval = change.interval and (percent(change.interval[0]), percent(change.interval[1]))
    return Change(percent(change.value), interval, change.pairs)


def field_change(pairs: Sequence[Pair], name: str) -> Change | None:
    """Change of any other field, b - a, in its own unit; None when a point does not have it."""
    values = [(a.mean(name), b.mean(name)) for a, b in distinct(pairs)]
    if not values or any(None in pair for pair in values):
        return None
    return _mean([float(b - a) for a, b in values])


def law_of_ratio(pairs: Sequence[Pair]) -> Law | None:
    """The power law of PPL_b / PPL_a against tokens: its alpha is the difference of the two exponents.

    With several draws the mean of a law per draw, its interval across draws; with one draw least squares, its
    interval the deviation of the ratio from a straight line over sizes. None with fewer than two sizes.
    """
    pairs = distinct(pairs)
    lone = lone_draws([a.train_tokens for a, _ in pairs], [a.draw for a, _ in pairs])
    kept = [pair for pair in pairs if pair[0].draw not in lone]
    tokens = [a.train_tokens for a, _ in kept]
    if len(set(tokens)) < 2:
        return None
    return fit_draws(tokens, [b.val_ppl / a.val_ppl for a, b in kept], [a.draw for a, _ in kept])


def _mean(values: Sequence[float]) -> Change:
    interval = across_draws(values).interval if len(values) > 1 else None
    return Change(float(np.mean(values)), interval, len(values))


def percent(log_ratio: float) -> float:
    """The change in percent, 100 * (ratio - 1), of a ratio."""
    return 100 * math.expm1(log_ratio)
