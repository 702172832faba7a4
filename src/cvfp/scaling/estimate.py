"""A number with its standard error and degrees of freedom: what intervals and verdicts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from cvfp.records.results import IntervalKind
from cvfp.scaling.power_law import Numbers, student_quantile


@dataclass(frozen=True)
class Estimate:
    """`value` with standard `error`, which has `dof` degrees of freedom; `error` is None where there are
    none.

    `kind` says what the error measures: the variation across draws, that of the test documents, or the
    deviation from a law along the line.
    """

    value: float
    error: float | None
    dof: int | float
    kind: IntervalKind

    @property
    def interval(self) -> tuple[float, float] | None:
        """value -+ t * error at 95%; None without degrees of freedom."""
        if self.error is None:
            return None
        reach = student_quantile(0.95, self.dof) * self.error
        return self.value - reach, self.value + reach

    @property
    def sign(self) -> int | None:
        """-1 or 1 where the interval excludes 0, else 0; None without an interval."""
        if self.interval is None:
            return None
        low, high = self.interval
        return int(low > 0) - int(high < 0)

    @property
    def probability_positive(self) -> float | None:
        """P(true value > 0) = P(T > -value / error) by Student's t; 0.5 where both are 0.

        None without an error.
        """
        if self.error is None:
            return None
        if self.error == 0:
            return 0.5 + 0.5 * float(np.sign(self.value))
        return float(stdtr(self.dof, self.value / self.error))


def across_draws(values: Numbers) -> Estimate:
    """The mean of independent `values`, one per draw, of which there are at least two."""
    array = np.asarray(values, dtype=np.float64)
    error = float(array.std(ddof=1)) / np.sqrt(len(array))
    return Estimate(float(array.mean()), float(error), len(array) - 1, "draws")


def widest(estimates: Sequence[Estimate]) -> Estimate:
    """The one with the widest interval; the first where none has one."""

    def width(one: Estimate) -> float:
        return -1.0 if one.interval is None else one.interval[1] - one.interval[0]

    return max(estimates, key=width)


def along_line(value: float, variance: float | None, dof: int) -> Estimate:
    """An estimate from the points of one line; `variance` counts only where `dof` is at least 1."""
    error = None if variance is None or dof < 1 else float(np.sqrt(variance))
    return Estimate(value, error, dof, "line")
