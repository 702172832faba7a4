"""A fitted line of ln PPL on ln D with the covariance of its errors: what comparing two lines needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvfp.records.results import IntervalKind
from cvfp.scaling.draws import Law, MeanLaw
from cvfp.scaling.estimate import Estimate


@dataclass(frozen=True, eq=False)
class StraightLine:
    """ln PPL = height + slope * (ln D - centre); the errors of (height, slope) have `covariance` (2, 2).

    `covariance` is None without degrees of freedom.
    """

    centre: float
    height: float
    slope: float
    covariance: np.ndarray | None
    dof: int | float
    kind: IntervalKind

    def at(self, log_tokens: float) -> Estimate:
        """ln PPL at ln D."""
        d = log_tokens - self.centre
        return self._estimate(self.height + self.slope * d, np.array([1.0, d]))

    @property
    def exponent(self) -> Estimate:
        return self._estimate(self.slope, np.array([0.0, 1.0]))

    def about(self, centre: float) -> StraightLine:
        """The same line, written about another centre."""
        shift = np.array([[1.0, centre - self.centre], [0.0, 1.0]])
        covariance = None if self.covariance is None else shift @ self.covariance @ shift.T
        return StraightLine(centre, self.at(centre).value, self.slope, covariance, self.dof, self.kind)

    def minus(self, other: StraightLine) -> StraightLine:
        """The difference of two independent lines.

        Its degrees of freedom are the smaller of the two, which is cautious: Welch's lie between that and
        their sum.
        """
        other = other.about(self.centre)
        known = self.covariance is not None and other.covariance is not None
        return StraightLine(
            self.centre,
            self.height - other.height,
            self.slope - other.slope,
            self.covariance + other.covariance if known else None,
            min(self.dof, other.dof),
            "draws" if self.kind == other.kind == "draws" else "line",
        )

    def _estimate(self, value: float, gradient: np.ndarray) -> Estimate:
        if self.covariance is None:
            return Estimate(value, None, self.dof, self.kind)
        variance = float(gradient @ self.covariance @ gradient)
        return Estimate(value, float(np.sqrt(max(variance, 0.0))), self.dof, self.kind)


def straight_line(law: Law) -> StraightLine:
    """The line of a power law.

    Of one draw its errors are those of least squares, s^2 * diag(1 / n, 1 / SS); the mean over k draws has
    the covariance of their (height, slope) over k.
    """
    if isinstance(law, MeanLaw):
        return _mean_line(law)
    s2 = law.residual_variance
    covariance = None if s2 is None else np.diag([s2 / law.n, s2 / law.log_tokens_ss])
    return StraightLine(law.mean_log_tokens, law.mean_log_ppl, law.alpha, covariance, law.n - 2, "line")


def _mean_line(law: MeanLaw) -> StraightLine:
    laws = list(law.laws.values())
    centre = float(np.mean([one.mean_log_tokens for one in laws]))
    lines = np.array([[straight_line(one).at(centre).value, one.alpha] for one in laws])
    height, slope = (float(value) for value in lines.mean(axis=0))
    return StraightLine(centre, height, slope, np.cov(lines.T) / len(laws), len(laws) - 1, "draws")
