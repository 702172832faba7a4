"""The forecast that any law has to beat: the line through the two largest sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.draws import MeanOfDraws
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number, Numbers, check_level, log_of_positive, student_quantile


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
    """Of each draw, with the mean of ln PPL over them, where there are several (`Points.units`).

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
