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

from cvfp.scaling.estimate import across_draws
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


@runtime_checkable
class LawOfOneDraw(Protocol):
    """What a mean over draws asks of the law of each."""

    @property
    def n(self) -> int:
        """Points."""

    def log_ppl(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """ln PPL in the shape of `tokens`."""


@dataclass(frozen=True)
class MeanOfDraws:
    """The mean of ln PPL over the laws, of one form, of at least two draws."""

    interval_kind: ClassVar = "draws"

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
        return across_draws(self.alphas).interval


Law = PowerLaw | MeanLaw


def fit_draws(tokens: Numbers, ppl: Numbers, draws: Sequence[Hashable]) -> Law:
    """The mean of one power law per draw; with fewer than two draws that have a law, one of all points.

    Args:
        tokens: training tokens of each point, (n,).
        ppl: perplexity of each point, (n,).
        draws: the draw that each point belongs to, (n,). Draws of a single size have no law: leave them
            out (`lone_draws`), they take no part beside two that have one. Copies of one result are no
            draws: leave them out too (`earlier_copies`).

    Raises:
        InputError: as `fit_power_law`.
    """
    pooled = fit_power_law(tokens, ppl)
    x, y = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    members = {draw: [other == draw for other in draws] for draw in dict.fromkeys(draws)}
    laws = {
        draw: fit_power_law(x[inside], y[inside])
        for draw, inside in members.items()
        if len(np.unique(x[inside])) > 1
    }
    if len(laws) < 2:
        return pooled
    fitted = np.array([draw in laws for draw in draws])
    log_ppl = np.log(y[fitted])
    mean = np.mean([law.log_ppl(x[fitted]) for law in laws.values()], axis=0)
    return MeanLaw(laws, explained_share(log_ppl, float(np.sum((log_ppl - mean) ** 2))))


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
