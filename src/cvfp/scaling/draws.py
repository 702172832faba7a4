"""Several draws of one line: a power law each, and intervals across them.

The sizes of a draw are nested, so their errors go together; draws are independent. Hence the draw, not the
point, is the unit of inference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from scipy.special import stdtr

from cvfp.records.results import IntervalKind
from cvfp.scaling.power_law import (
    Number,
    Numbers,
    PowerLaw,
    check_level,
    explained_share,
    finite_exp,
    fit_power_law,
    student_quantile,
)

# --- A number with its standard error and degrees of freedom: what intervals and verdicts are made of.


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
    def variance(self) -> float:
        """error^2 of an estimate that has one."""
        assert self.error is not None
        return self.error**2

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

    @property
    def p_value(self) -> float | None:
        """P(|T| >= |value| / error) by Student's t if the true value is 0; None without an error."""
        positive = self.probability_positive
        return None if positive is None else 2 * min(positive, 1 - positive)


def holm(p_values: Sequence[float], level: float = 0.05) -> list[bool]:
    """Which of several differences are told from 0, at most `level` of such families having a false one.

    The p-values in order, smallest first, are held against level / m, level / (m - 1), ...; the first that
    fails ends it (Holm 1979).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    found = [False] * len(p_values)
    for rank, index in enumerate(order):
        if p_values[index] > level / (len(p_values) - rank):
            break
        found[index] = True
    return found


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


# --- Power laws of several draws, and their mean.


@runtime_checkable
class LawOfOneDraw(Protocol):
    """What a mean over draws asks of the law of each."""

    @property
    def n(self) -> int:
        """Points."""
        ...

    def log_ppl(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """ln PPL in the shape of `tokens`."""
        ...


@dataclass(frozen=True)
class MeanOfDraws:
    """The mean of ln PPL over the laws, of one form, of at least two draws."""

    interval_kind: ClassVar[IntervalKind] = "draws"

    laws: Mapping[Hashable, LawOfOneDraw]
    """By draw."""

    @property
    def n(self) -> int:
        """Points of all draws."""
        return sum(law.n for law in self.laws.values())

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """The geometric mean of the predictions of the draws. Raises as `PowerLaw`."""
        return np.exp(self._log_ppls(tokens).mean(axis=0))

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number]:
        """Where the law fitted to one new draw lies at `tokens` with probability `level`.

        exp(mean -+ t * s * sqrt(1 + 1/k)), with mean and s of the k laws' ln PPL(tokens) and t at k - 1
        degrees of freedom. The scatter of a single point about its draw's law is not in it. Raises as
        `PowerLaw.prediction_interval`.
        """
        check_level(level)
        logs, k = self._log_ppls(tokens), len(self.laws)
        centre = logs.mean(axis=0)
        reach = student_quantile(level, k - 1) * logs.std(axis=0, ddof=1) * np.sqrt(1 + 1 / k)
        with np.errstate(over="ignore"):  # a bound beyond float64 is infinite
            return np.exp(centre - reach), np.exp(centre + reach)

    def _log_ppls(self, tokens: Number | Numbers) -> np.ndarray:
        return np.stack([np.asarray(law.log_ppl(tokens)) for law in self.laws.values()])


@dataclass(frozen=True)
class MeanLaw(MeanOfDraws):
    """The mean of power laws: alpha and ln A are means over the draws.

    It has the public face of a `PowerLaw`, with intervals across draws instead of along the line.
    """

    laws: Mapping[Hashable, PowerLaw]
    r_squared: float
    """1 - RSS / TSS of ln PPL of all points about the mean law; below 0 where it explains nothing."""

    @property
    def alphas(self) -> list[float]:
        return [law.alpha for law in self.laws.values()]

    @property
    def alpha(self) -> float:
        return float(np.mean(self.alphas))

    @property
    def A(self) -> float:
        return finite_exp(float(np.mean([law.log_A for law in self.laws.values()])))

    @property
    def alpha_ci95(self) -> tuple[float, float]:
        """mean -+ t * s / sqrt(k) of the alphas of k draws, t at k - 1 degrees of freedom."""
        interval = across_draws(self.alphas).interval
        assert interval is not None  # there are at least two draws
        return interval


Law = PowerLaw | MeanLaw


def fit_draws(tokens: Numbers, ppl: Numbers, draws: Sequence[Hashable]) -> Law:
    """The mean of one power law per draw (`full_draws`); with fewer than two of them, one of all points.

    Args:
        tokens: training tokens of each point, (n,).
        ppl: perplexity of each point, (n,).
        draws: the draw that each point belongs to, (n,). Copies of one result are no draws: leave them out
            (`earlier_copies`).

    Raises:
        InputError: as `fit_power_law`.
    """
    pooled = fit_power_law(tokens, ppl)
    x, y = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    members = places_of(draws)
    laws = {draw: fit_power_law(x[members[draw]], y[members[draw]]) for draw in full_draws(x.tolist(), draws)}
    if not laws:
        return pooled
    fitted = np.array([draw in laws for draw in draws])
    log_ppl = np.log(y[fitted])
    mean = np.mean([law.log_ppl(x[fitted]) for law in laws.values()], axis=0)
    return MeanLaw(laws, explained_share(log_ppl, float(np.sum((log_ppl - mean) ** 2))))


def places_of(draws: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    """Where the points of each draw stand, in order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for place, draw in enumerate(draws):
        found.setdefault(draw, []).append(place)
    return found


def full_draws(sizes: Sequence[Number], draws: Sequence[Hashable], least_sizes: int = 2) -> list[Hashable]:
    """The draws that inference is over: those of at least `least_sizes` distinct sizes, and of half as many
    as the draw with most. Empty where they are fewer than two.

    A draw of few sizes says next to nothing of a law, and would count as much as any other: the exponent of
    two neighbouring sizes has 35 times the variance of that of six, and beside three draws of six it widens
    their interval fivefold.
    """
    counts = {draw: len({sizes[place] for place in places}) for draw, places in places_of(draws).items()}
    least = max(least_sizes, max(counts.values(), default=0) / 2)
    full = [draw for draw, count in counts.items() if count >= least]
    return full if len(full) > 1 else []


def lone_draws(tokens: Sequence[Number], draws: Sequence[Hashable]) -> set[Hashable]:
    """Draws of a single size beside at least two of several; empty where there are no two."""
    sizes = Counter(draw for _, draw in set(zip(tokens, draws, strict=True)))
    lone = {draw for draw, count in sizes.items() if count == 1}
    return lone if len(sizes) - len(lone) > 1 else set()


def earlier_copies(results: Sequence[Hashable]) -> list[int | None]:
    """For each result, where an equal one stands before it; None where it is the first.

    An arm that the seed cannot affect gives every draw the same result: one observation, not several.
    """
    first: dict[Hashable, int] = {}
    found = [first.setdefault(result, index) for index, result in enumerate(results)]
    return [None if earlier == index else earlier for index, earlier in enumerate(found)]


# --- A fitted line of ln PPL on ln D with the covariance of its errors: what comparing two lines needs.


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
        covariance = None
        if self.covariance is not None and other.covariance is not None:
            covariance = self.covariance + other.covariance
        return StraightLine(
            self.centre,
            self.height - other.height,
            self.slope - other.slope,
            covariance,
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
