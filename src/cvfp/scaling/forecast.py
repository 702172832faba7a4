"""What laws say of sizes that they have not seen, held to what was measured there: backtests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.draws import MeanOfDraws
from cvfp.scaling.forms import FormName, FormStatus, fit_form, possible_forms
from cvfp.scaling.outlook import Refusal, outlook
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number, Numbers, check_level, log_of_positive, student_quantile


@runtime_checkable
class Predictor(Protocol):
    """A fitted law, of one draw or the mean of several, of any form."""

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """PPL in the shape of `tokens`."""
        ...

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number] | None:
        """Its ends; None without degrees of freedom."""
        ...


@dataclass(frozen=True)
class Forecast:
    """What a law says of one size, with its 95% prediction interval.

    The interval is of one new run when the law is of one draw, of the law of a new draw when it is the mean
    over several. `low` and `high` are None when the fit has no residual degrees of freedom; `high` also when
    it is beyond the range of a float.
    """

    tokens: float
    ppl: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Backtest:
    """What the law of the smaller sizes says of the largest one, beside what was measured there.

    `measured` is the geometric mean over draws; the interval is that of `Forecast`.
    """

    tokens: float
    predicted: float
    low: float
    high: float | None
    measured: float

    @property
    def held(self) -> bool:
        """Whether the measured value lies in the 95% interval."""
        return self.low <= self.measured and (self.high is None or self.measured <= self.high)


def forecast_at(law: Predictor, tokens: float) -> Forecast:
    """What a law says of `tokens`.

    Raises:
        InputError: a token count that is not positive and finite, or a prediction that is not finite.
    """
    with np.errstate(over="ignore"):
        ppl = float(law.predict(tokens))
    if not math.isfinite(ppl):
        raise InputError(f"the perplexity predicted at {tokens:g} tokens is beyond the range of a float")
    interval = law.prediction_interval(tokens)
    if interval is None:
        return Forecast(tokens, ppl, None, None)
    low, high = float(interval[0]), float(interval[1])
    return Forecast(tokens, ppl, low, high if math.isfinite(high) else None)


def backtest(law: Predictor, tokens: float, measured: float) -> Backtest | None:
    """What a law says of `tokens`, which it was fitted without; None where it has no interval.

    Raises:
        InputError: a prediction that is not finite.
    """
    found = forecast_at(law, tokens)
    if found.low is None:
        return None
    return Backtest(tokens, found.ppl, found.low, found.high, measured)


# --- The forecast that any law has to beat: the line through the two largest sizes.


@dataclass(frozen=True)
class LastSlope:
    """The line of ln PPL on ln D through the two largest sizes of one draw, with the error it has had before.

    The same rule, asked at each size for the next one, errs by e_i. With independent noise of variance s^2 at
    each size, the error at a distance of h steps (in the last step's length) has the variance s^2 * (1 + h^2
    + (1 + h)^2); s^2 is the mean of e_i^2 / (1 + h_i^2 + (1 + h_i)^2), over n - 2 sizes. A curved law widens
    it.
    """

    interval_kind: ClassVar = "line"

    ends: tuple[tuple[float, float], tuple[float, float]]
    """(ln D, ln PPL) of the two largest sizes, the larger one last."""
    variance: float | None
    """s^2; None with two sizes."""
    dof: int
    n: int

    def log_ppl(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """ln PPL on the line, in the shape of `tokens`. Raises as `PowerLaw.predict`."""
        (_, before), (_, last) = self.ends
        return last + self._steps(tokens) * (last - before)

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """exp of `log_ppl`."""
        return np.exp(self.log_ppl(tokens))

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number] | None:
        """Where the perplexity of one new run falls with probability `level`, with t at n - 2 degrees of
        freedom.

        None with two sizes. Raises as `PowerLaw.prediction_interval`.
        """
        check_level(level)
        centre = self.log_ppl(tokens)
        if self.variance is None:
            return None
        reach = student_quantile(level, self.dof) * np.sqrt(self.variance * _growth(self._steps(tokens)))
        with np.errstate(over="ignore"):  # a bound beyond float64 is infinite
            return np.exp(centre - reach), np.exp(centre + reach)

    def _steps(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        (before, _), (last, _) = self.ends
        return (log_of_positive(tokens, "tokens") - last) / (last - before)


def last_slope(points: Points) -> LastSlope | MeanOfDraws:
    """The last slope of each draw, with the mean of ln PPL over them, where there are several
    (`Points.units`).

    Raises:
        InputError: fewer than two sizes.
    """
    units = points.units(2)
    laws = {points.draws[unit[0]]: _last_slope(points.kept(unit)) for unit in units}
    return MeanOfDraws(laws) if len(units) > 1 else laws[points.draws[units[0][0]]]


def _last_slope(points: Points) -> LastSlope:
    means = [points.of_sizes([size]) for size in points.distinct_sizes]
    x = np.array([one.log_tokens.mean() for one in means])
    y = np.array([one.log_ppl.mean() for one in means])
    if len(x) < 2 or (np.diff(x) <= 0).any():
        raise InputError("the last local slope needs at least two sizes, of tokens that increase")
    steps, rises = np.diff(x), np.diff(y)
    h = steps[1:] / steps[:-1]
    errors = rises[1:] - h * rises[:-1]
    variance = float(np.mean(errors**2 / _growth(h))) if len(errors) > 0 else None
    ends = (float(x[-2]), float(y[-2])), (float(x[-1]), float(y[-1]))
    return LastSlope(ends, variance, len(errors), len(points.tokens))


def _growth(h: np.ndarray | np.number) -> np.ndarray | np.number:
    return 1 + h**2 + (1 + h) ** 2


# --- Backtests: the largest sizes are hidden, each form predicts them from the rest, and is scored.


OUTLOOK, LAST_SLOPE = "outlook", "last_slope"
"""The one forecast of a line, and the baseline: `LastSlope`."""


@dataclass(frozen=True)
class ScoredForm:
    """What one form said of the hidden sizes. All but `form` and `status` are empty or None where it may not
    be extrapolated, or has no interval.
    """

    form: FormName | Literal["outlook", "last_slope"]
    status: FormStatus | Refusal
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
    """The forecast, all forms, and the last local slope, which comes last, on the same hidden sizes."""

    known: tuple[int | float, ...]
    hidden: tuple[int | float, ...]
    forms: tuple[ScoredForm, ...]


def holdout(points: Points, hide: int) -> Holdout | None:
    """Make the forecast, each form and the last local slope without the `hide` largest sizes; score them
    there.

    The score of a 95% interval (l, u) of ln PPL at a measured y is u - l + 40 * (distance of y from it):
    proper, so that neither wide nor overconfident intervals pay (Gneiting & Raftery 2007, section 6.2). Of
    several draws, y is the mean over them and the interval is for one new run, or the law of one new draw: it
    is wider than y needs.

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
    ahead = outlook(rest)
    first = _scored(
        OUTLOOK,
        ahead.refused or "converged",
        None if ahead.refused else ahead,
        out,
        base.interval_score,
    )
    return Holdout(tuple(known), tuple(hidden), (first, *scored, base))


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
    form: FormName | Literal["outlook", "last_slope"],
    status: FormStatus | Refusal,
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
    known = [(one.low, one.high, one.measured) for one in predictions if one.high is not None and one.low > 0]
    if len(known) < len(predictions):
        return None
    return fmean(interval_score(*(float(value) for value in row)) for row in np.log(known))
