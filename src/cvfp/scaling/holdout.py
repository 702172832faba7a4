"""Backtests: the largest sizes are hidden, each form predicts them from the rest, and is scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import Literal

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.forecast import Backtest, Predictor, backtest
from cvfp.scaling.forms import FormName, FormStatus, fit_form, possible_forms
from cvfp.scaling.last_slope import last_slope
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number

LAST_SLOPE = "last_slope"
"""The baseline: `last_slope.LastSlope`."""


@dataclass(frozen=True)
class ScoredForm:
    """What one form said of the hidden sizes. All but `form` and `status` are empty or None where it may not
    be extrapolated, or has no interval.
    """

    form: FormName | Literal["last_slope"]
    status: FormStatus
    predictions: tuple[Backtest, ...]
    """Smallest hidden size first."""
    interval_score: float | None
    """Mean over the hidden sizes, nats."""
    ratio: float | None
    """Interval score over that of the last local slope: below 1 the form is better."""
    coverage: float | None
    """Share of the hidden sizes in their 95% interval."""


@dataclass(frozen=True)
class Holdout:
    """All forms and the last local slope, which comes last, on the same hidden sizes."""

    known: tuple[Number, ...]
    hidden: tuple[Number, ...]
    forms: tuple[ScoredForm, ...]


def holdout(points: Points, hide: int) -> Holdout | None:
    """Fit each form and the last local slope without the `hide` largest sizes, and score them there.

    The score of a 95% interval (l, u) of ln PPL at a measured y is u - l + 40 * (distance of y from it):
    proper, so that neither wide nor overconfident intervals pay (Gneiting & Raftery 2007, section 6.2). Of
    several draws, y is the mean over them and the interval is for the law of one new draw: it is wider than y
    needs.

    Returns:
        None with fewer than two sizes left.

    Raises:
        InputError: `hide` below 1.
    """
    if hide < 1:
        raise InputError(f"holdout: must be at least 1 size, got {hide}")
    sizes = points.distinct_sizes
    known, hidden = sizes[:-hide], sizes[-hide:]
    if len(known) < 2:
        return None
    rest, out = points.of_sizes(known), points.of_sizes(hidden)
    base = _scored(LAST_SLOPE, "converged", last_slope(rest), out, None)
    fits = [fit_form(rest, form) for form in possible_forms(points)]
    scored = [
        _scored(fit.form, fit.status, fit.law if fit.extrapolates else None, out, base.interval_score)
        for fit in fits
    ]
    return Holdout(tuple(known), tuple(hidden), (*scored, base))


def predicted_sizes(law: Predictor, hidden: Points) -> list[Backtest]:
    """A law held to what was measured at sizes it has not seen; empty where it has no interval.

    Raises:
        InputError: a prediction that is not finite.
    """
    sizes = [hidden.of_sizes([size]) for size in hidden.distinct_sizes]
    found = [backtest(law, fmean(one.tokens), geometric_mean(one.ppl)) for one in sizes]
    return [one for one in found if one is not None]


def interval_score(low: float, high: float, measured: float, level: float = 0.95) -> float:
    """u - l + 2 / (1 - level) * (distance of `measured` from the interval), in their unit."""
    missed = max(low - measured, measured - high, 0.0)
    return high - low + 2 / (1 - level) * missed


def _scored(
    form: FormName | Literal["last_slope"],
    status: FormStatus,
    law: Predictor | None,
    out: Points,
    baseline: float | None,
) -> ScoredForm:
    predictions = () if law is None else tuple(predicted_sizes(law, out))
    if not predictions:
        return ScoredForm(form, status, (), None, None, None)
    score = _mean_score(predictions)
    if form == LAST_SLOPE:
        baseline = score
    ratio = score / baseline if score is not None and baseline else None
    return ScoredForm(form, status, predictions, score, ratio, fmean(one.held for one in predictions))


def _mean_score(predictions: Sequence[Backtest]) -> float | None:
    """None where an interval is open, or an end of it is 0."""
    if any(one.high is None or one.low <= 0 for one in predictions):
        return None
    logs = np.log([(one.low, one.high, one.measured) for one in predictions])
    return fmean(interval_score(*(float(value) for value in row)) for row in logs)
