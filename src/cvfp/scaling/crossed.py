"""A number computed from every draw on the same test documents: what it varies by, either way and both.

Draws and test documents are crossed: every draw is scored on every document. Model, for draw d, document j:
value = mu + draw_d + document_j + rest_dj. Over new draws of k, on new sets of n documents, the mean has the
variance s_draw^2 / k + s_document^2 / n + s_rest^2 / (k n) (McCullagh 2000; Owen & Eckles 2012).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cvfp.records.results import IntervalKind
from cvfp.scaling.estimate import Estimate, across_draws, widest
from cvfp.scaling.pairs import Change, percent

RESAMPLES = 2000
"""Of the test documents: the standard error they give is then within 1.6% (one standard deviation)."""
SEED = 0
"""Of the resamples: the same for every number, so that a report repeats."""
CELLS = 2**22
"""Documents that are drawn at a time: 32 MiB."""


@dataclass(frozen=True)
class Crossed:
    """A mean over k draws, with what it varies by."""

    draws: Estimate | None
    """Across draws, on these test documents; the initialisation is in it where the seed drives both. None
    with one draw."""
    documents: Estimate
    """Over test documents, for these draws: by bootstrap."""

    @property
    def value(self) -> float:
        return self.documents.value

    @property
    def count(self) -> int:
        """k."""
        return 1 if self.draws is None else int(self.draws.dof) + 1

    @property
    def kind(self) -> IntervalKind:
        """With one draw the interval is over test documents only: it says nothing of other draws."""
        return "documents" if self.draws is None else "draws x documents"

    @property
    def total(self) -> Estimate:
        """Over new draws and new test documents: the variances v of both add up.

        Satterthwaite's degrees of freedom, (sum v)^2 / sum(v^2 / dof). s_rest^2 is in both variances, which
        is cautious.
        """
        variances = np.array([one.error**2 for one in self._sources])
        whole = float(variances.sum())
        shares = variances / whole if whole > 0 else np.full(len(variances), 1 / len(variances))
        dof = 1 / float(np.sum(shares**2 / [one.dof for one in self._sources]))
        return Estimate(self.value, float(np.sqrt(whole)), dof, self.kind)

    @property
    def interval(self) -> tuple[float, float]:
        """The widest of the 95% intervals of `draws`, `documents` and `total`.

        That of `total` alone is narrower than that of `draws` where two or three draws happen to lie close to
        each other, and covers 88 to 93% where draws make most of the variance; this one 94 to 97% from three
        draws on, 95 to 98% with two.
        """
        return widest([self.total, *self._sources]).interval

    @property
    def _sources(self) -> tuple[Estimate, ...]:
        return (self.documents,) if self.draws is None else (self.draws, self.documents)

    @property
    def change(self) -> Change:
        """As a change of one line against another, in its own unit."""
        return Change(self.value, self.interval, self.count, self.kind)

    @property
    def percent_change(self) -> Change:
        """As a change in percent, of a difference of logarithms."""
        low, high = self.interval
        return Change(percent(self.value), (percent(low), percent(high)), self.count, self.kind)


def crossed(values: np.ndarray, tokens: np.ndarray) -> Crossed:
    """The mean over draws of q_d = sum_j values[d, j] / sum_j tokens[j].

    Every number that is linear in ln PPL is such a q, with values as linear in the nats of the documents: ln
    PPL itself, an exponent, a point of a law, and differences of these.

    The error over documents is the standard deviation of the mean over `resampled` documents, times
    sqrt(n / (n - 1)). It has (sum u^2)^2 / sum u^4 degrees of freedom, u_j = mean_d values[d, j] - q *
    tokens[j] being the part of document j: the number of documents that it rests on, near 1 where a single
    one makes it (as Satterthwaite, without the factor 3 that holds for normal u: documents have heavy tails).

    Args:
        values: nats, or nats times weights, (k, n).
        tokens: predicted tokens of the documents, (n,), n at least 2.
    """
    by_draw, n = values.sum(axis=1) / tokens.sum(), len(tokens)
    q = float(by_draw.mean())
    error = float(resampled(values, tokens).mean(axis=1).std(ddof=1) * np.sqrt(n / (n - 1)))
    documents = Estimate(q, error, effective_count(values.mean(axis=0) - q * tokens), "documents")
    return Crossed(across_draws(by_draw) if len(by_draw) > 1 else None, documents)


def resampled(values: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """q of each draw, (`RESAMPLES`, k), on as many documents, drawn from these with replacement."""
    rows = np.vstack([values, tokens])
    sums = np.concatenate([counts @ rows.T for counts in _resamples(len(tokens), RESAMPLES)])
    return sums[:, :-1] / sums[:, -1:]


def _resamples(n: int, number: int) -> Iterable[np.ndarray]:
    """How often each of n documents is in each of so many resamples, (k, n) of them at a time."""
    return _few_resamples(n, number) if number * n <= CELLS else _draw_resamples(n, number)


@functools.lru_cache(maxsize=2)
def _few_resamples(n: int, number: int) -> tuple[np.ndarray, ...]:
    return tuple(_draw_resamples(n, number))


def _draw_resamples(n: int, number: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(SEED)
    for first in range(0, number, step := max(1, CELLS // n)):
        count = min(step, number - first)
        picked = rng.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(picked.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def effective_count(parts: np.ndarray) -> float:
    """(sum u^2)^2 / sum u^4 of u (n,), between 1 and n; n where all are 0."""
    largest = np.abs(parts).max()
    if largest == 0:
        return float(len(parts))
    squares = (parts / largest) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())
