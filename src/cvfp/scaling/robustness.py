"""Verdicts that hang on one size, or on digits that were not printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.scaling.forms import choices
from cvfp.scaling.local_exponent import bends, top_weights
from cvfp.scaling.points import Points

Verdict = Callable[[Points, np.ndarray], list[str]]
"""One text for each row (m, n) of values of ln PPL at points."""

LINE_VERDICTS: Mapping[str, Verdict] = {"curvature": bends, "form": choices}
UNTESTABLE = "not testable"
ROUNDED = 16
"""Random inputs that print the same; to them come the four worst ones for slope and curvature."""


@dataclass(frozen=True)
class Flip:
    """A verdict that becomes another when sizes are dropped, or when inputs are rounded otherwise.

    `dropped` are the smallest and largest of the sizes left out, None for rounding.
    """

    verdict: str
    given: str
    becomes: str
    by: Literal["dropping", "rounding"]
    dropped: tuple[int | float, int | float] | None


def flips(
    points: Points, half_units: np.ndarray | None = None, verdicts: Mapping[str, Verdict] = LINE_VERDICTS
) -> list[Flip]:
    """Every verdict on a line that does not survive dropping any one size, or rounding.

    Sizes are dropped in turn (`Points.folds`). A verdict that cannot be tested with a size less is no flip,
    nor is one that could not be tested at all.

    Args:
        points: of one line.
        half_units: half a unit of the last printed digit of each perplexity, as a change of ln PPL, (n,).
            None: they are exact.
        verdicts: what to test, by name.
    """
    found = []
    for name, verdict in verdicts.items():
        given = verdict(points, points.log_ppl[None])[0]
        if given == UNTESTABLE:
            continue
        found += _by_dropping(points, name, verdict, given)
        if half_units is not None:
            found += _by_rounding(points, name, verdict, given, half_units)
    return found


def _by_dropping(points: Points, name: str, verdict: Verdict, given: str) -> list[Flip]:
    found = []
    for sizes in points.folds():
        left = points.kept(~np.isin(points.sizes, sizes))
        becomes = verdict(left, left.log_ppl[None])[0]
        if becomes not in (given, UNTESTABLE):
            found.append(Flip(name, given, becomes, "dropping", (sizes[0], sizes[-1])))
    return found


def _by_rounding(
    points: Points, name: str, verdict: Verdict, given: str, half_units: np.ndarray
) -> list[Flip]:
    becomes = Counter(verdict(points, _rounded(points, half_units)))
    becomes -= Counter({given: becomes[given], UNTESTABLE: becomes[UNTESTABLE]})
    return [Flip(name, given, other, "rounding", None) for other, _ in becomes.most_common(1)]


def _rounded(points: Points, half_units: np.ndarray) -> np.ndarray:
    """Values of ln PPL (m, n) within half a printed unit."""
    random = np.random.default_rng(0).uniform(-1, 1, size=(ROUNDED, len(half_units)))
    degrees = [degree for degree in (1, 2) if len(np.unique(points.tokens)) > degree]
    worst = [sign * np.sign(top_weights(points.log_tokens, degree)) for degree in degrees for sign in (1, -1)]
    return points.log_ppl + half_units * np.concatenate([random, np.stack(worst)])
