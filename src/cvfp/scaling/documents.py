"""Draws and test documents: perplexities, exponents and laws of lines, with what they vary by.

Draws and test documents are crossed: every draw is scored on every document. Model, for draw d, document j:
value = mu + draw_d + document_j + rest_dj. Over new draws of k, on new sets of n documents, the mean has the
variance s_draw^2 / k + s_document^2 / n + s_rest^2 / (k n) (McCullagh 2000; Owen & Eckles 2012).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.records.errors import InputError
from cvfp.records.results import DocumentScores, IntervalKind, RunRecord
from cvfp.scaling.draws import Estimate, StraightLine, across_draws, earlier_copies, widest
from cvfp.scaling.local_exponent import top_weights
from cvfp.scaling.points import Change, Points, matched, percent, points_of
from cvfp.scaling.power_law import Number, log_of_positive

# --- The losses of the runs of a line, or of the difference of two lines, on each of the same test documents.


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses of r runs on n test documents; made by `losses_of` and `paired_losses`.

    ln PPL of a run is its nats over `tokens`, both summed. Of a difference, `nats` and hence ln PPL are those
    of the second line minus those of the first, and PPL is the ratio.
    """

    points: Points
    """Training tokens, PPL, numbers of samples and draws of the runs, (r,)."""
    nats: np.ndarray
    """Summed over each document, (r, n)."""
    tokens: np.ndarray
    """Predicted tokens of each document, above 0, (n,)."""

    def kept(self, keep: np.ndarray) -> Losses:
        """The runs that a mask or an array of indices picks."""
        return Losses(self.points.kept(keep), self.nats[keep], self.tokens)

    def distinct(self) -> Losses:
        """The losses without runs whose losses another run of that size has: a seed that changes nothing."""
        results = zip(self.points.sizes.tolist(), map(tuple, self.nats.tolist()), strict=True)
        return self.kept(np.array([earlier is None for earlier in earlier_copies(list(results))]))

    def by_draw(self) -> Losses:
        """One per size and draw: the mean over its initialisations."""
        nats = np.array([self.nats[cell].mean(axis=0) for cell in self.points.cells()])
        return Losses(self.points.by_draw(), nats, self.tokens)

    def at(self, size: Number) -> Losses:
        """The runs with `size` training documents. Raises `InputError` where there are none."""
        inside = self.points.sizes == size
        if not inside.any():
            raise InputError(f"there is no run with {size} training documents")
        return self.kept(inside)


def losses_of(runs: Sequence[RunRecord]) -> Losses:
    """The losses of the finished runs of one line. Documents without a predicted token are left out.

    Raises:
        InputError: no runs; one without the losses of its test documents; two of one size and seed; unequal
            test documents; fewer than two of them.
    """
    documents = _checked(runs)
    tokens = np.array(documents[0].tokens)
    counted = tokens > 0
    if counted.sum() < 2:
        raise InputError(f"what test documents vary by needs at least two of them, got {counted.sum()}")
    nats = np.array([scores.nats for scores in documents])[:, counted]
    rows = [run.point for run in runs]
    ppl = np.exp(nats.sum(axis=1) / tokens.sum())
    trained, sizes = [row.tokens for row in rows], [row.num_samples for row in rows]
    return Losses(points_of(trained, ppl, [row.draw for row in rows], sizes), nats, tokens[counted])


def paired_losses(first: Losses, second: Losses) -> Losses:
    """The second line minus the first, where both have runs of equal size, draw and training tokens.

    Initialisations are averaged within a draw. What both sides of a pair share, the draw of documents and the
    difficulty of a test document, drops out.

    Raises:
        InputError: unequal test documents, or no such pair.
    """
    if not np.array_equal(first.tokens, second.tokens):
        raise InputError("two lines are paired by test document, and these were scored on different ones")
    first, second = first.by_draw(), second.by_draw()
    pairs = matched(first.points, second.points)
    if not pairs:
        raise InputError("the two curves have no runs of equal size, seed and training tokens")
    mine, other = (np.array(indices) for indices in zip(*pairs, strict=True))
    one = first.points.kept(mine)
    ratio = Points(one.tokens, second.points.ppl[other] / one.ppl, one.sizes, one.draws)
    return Losses(ratio, second.nats[other] - first.nats[mine], first.tokens)


def _checked(runs: Sequence[RunRecord]) -> list[DocumentScores]:
    """The test documents of each run. Raises as `losses_of`."""
    if not runs:
        raise InputError("the losses of a line: at least one run is needed")
    seen: set[tuple[int, int]] = set()
    found: list[DocumentScores] = []
    for run in runs:
        size, seed = run.point.num_samples, run.point.seed
        name = f"the run of {run.point.arm} with {size} documents and seed {seed}"
        if run.test_documents is None:
            raise InputError(f"{name}: the losses of its test documents are not recorded")
        found.append(run.test_documents)
        if found[-1].tokens != found[0].tokens:
            raise InputError(f"{name}: was scored on other test documents than the first run")
        if (size, seed) in seen:
            raise InputError(f"{name}: is there twice; the runs of one line are needed")
        seen.add((size, seed))
    return found


# --- A number computed from every draw on the same test documents: what it varies by, either way and both.


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
        """The kind of the interval; with one draw it is over test documents only: it says nothing of
        other draws."""
        return "documents" if self.draws is None else "draws x documents"

    @property
    def total(self) -> Estimate:
        """Over new draws and new test documents: the variances v of both add up.

        Satterthwaite's degrees of freedom, (sum v)^2 / sum(v^2 / dof). s_rest^2 is in both variances, which
        is cautious.
        """
        variances = np.array([one.variance for one in self._sources])
        whole = float(variances.sum())
        shares = variances / whole if whole > 0 else np.full(len(variances), 1 / len(variances))
        dof = 1 / float(np.sum(shares**2 / [one.dof for one in self._sources]))
        return Estimate(self.value, float(np.sqrt(whole)), dof, self.kind)

    @property
    def widest(self) -> Estimate:
        """The one of `draws`, `documents` and `total` with the widest 95% interval.

        That of `total` alone is narrower than that of `draws` where two or three draws happen to lie close to
        each other, and covers 88 to 93% where draws make most of the variance; this one 94 to 97% from three
        draws on, 95 to 98% with two.
        """
        return widest([self.total, *self._sources])

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of `widest`."""
        interval = self.widest.interval
        assert interval is not None
        return interval

    @property
    def _sources(self) -> tuple[Estimate, ...]:
        return (self.documents,) if self.draws is None else (self.draws, self.documents)

    @property
    def change(self) -> Change:
        """The difference as a change of one line against another, in its own unit."""
        return Change(self.value, self.interval, self.count, self.kind)

    @property
    def percent_change(self) -> Change:
        """The difference as a change in percent, of a difference of logarithms."""
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


# --- Perplexities, exponents and laws of a line, or of a difference of two, over draws and test documents.
#
# Initialisations are averaged within their draw. All are linear in ln PPL and so in the losses of the test
# documents: refitting the laws to resampled documents is resampling one weighted sum of losses per draw.


def log_ppl_at(losses: Losses, size: Number) -> Crossed:
    """Mean ln PPL, nats per token, of the runs with `size` training documents.

    Of a difference, the mean of ln(PPL_2 / PPL_1): its `percent_change` is that of PPL.

    Raises:
        InputError: there is no such run.
    """
    runs = losses.at(size).by_draw().distinct()
    return crossed(runs.nats, runs.tokens)


def exponent(losses: Losses) -> Crossed:
    """Mean alpha of the power laws of the draws; of a difference, alpha_2 - alpha_1.

    Draws of a single size have no law: they are left out beside two that have one; where fewer have one, it
    is one law of all runs, and its interval over test documents only.

    Raises:
        InputError: fewer than two distinct sizes.
    """
    return _of_laws(losses, lambda log_tokens: top_weights(log_tokens, 1))


def law_at(losses: Losses, tokens: Number) -> Crossed:
    """Mean ln PPL of the power laws of the draws at `tokens` training tokens. Draws and errors as `exponent`.

    It is where the law lies; how far a run is from its law is not in it.
    """
    target = float(log_of_positive(tokens, "tokens"))

    return _of_laws(losses, lambda log_tokens: height_weights(log_tokens, target))


def height_weights(log_tokens: np.ndarray, target: float) -> np.ndarray:
    """w with sum(w * ln PPL) = ln PPL of the least-squares line of ln tokens (n,) at `target`, ln tokens."""
    return 1 / len(log_tokens) + (target - log_tokens.mean()) * top_weights(log_tokens, 1)


def weighted_sums(losses: Losses, weights: Callable[[np.ndarray], np.ndarray]) -> tuple[Losses, np.ndarray]:
    """The distinct results of the draws, and `weights` (of ln tokens) times their losses: (draws, documents).

    Draws and errors as `exponent`.
    """
    runs = losses.by_draw().distinct()
    units = runs.points.units(2)
    x = runs.points.log_tokens
    fewest = min(len(np.unique(x[unit])) for unit in units)
    if fewest < 2:
        raise InputError(f"a power law needs at least two distinct sizes, got {fewest}")
    return runs, np.array([weights(x[unit]) @ runs.nats[unit] for unit in units])


def _of_laws(losses: Losses, weights: Callable[[np.ndarray], np.ndarray]) -> Crossed:
    runs, values = weighted_sums(losses, weights)
    return crossed(values, runs.tokens)


# --- The mean power law of a line, or of a difference of two, with its errors over draws and test documents.


def crossed_lines(losses: Losses) -> list[StraightLine]:
    """One line with the errors of each source: over test documents; where there are several draws also over
    draws, and over both, whose covariances add up.

    A 95% interval of anything on the line is the widest of theirs, as `Crossed.interval`. Degrees of freedom
    are those of the exponent. Raises as `exponent`.
    """
    runs, units = weighted_sums(losses, lambda log_tokens: top_weights(log_tokens, 1))
    exponent = crossed(units, runs.tokens)
    centre = float(runs.points.log_tokens.mean())
    _runs, at_centre = weighted_sums(losses, lambda log_tokens: height_weights(log_tokens, centre))
    both, n = (at_centre, units), len(runs.tokens)
    by_draw = np.stack([values.sum(axis=1) for values in both]) / runs.tokens.sum()
    over_documents = np.stack([resampled(values, runs.tokens).mean(axis=1) for values in both])
    documents = np.cov(over_documents) * n / (n - 1)
    sources = [(documents, exponent.documents.dof)]
    if exponent.draws is not None:
        draws = np.cov(by_draw) / exponent.count
        sources += [(draws, exponent.draws.dof), (draws + documents, exponent.total.dof)]
    height, slope = (float(value) for value in by_draw.mean(axis=1))
    return [StraightLine(centre, height, slope, each, dof, exponent.kind) for each, dof in sources]


# --- Where the spread of ln PPL comes from at each size: initialisation, draw of documents, test documents.


Source = Literal["initialisation", "draw", "draw and initialisation", "test documents"]
"""`draw and initialisation` is both together, where one run per draw cannot tell them apart."""


@dataclass(frozen=True)
class Component:
    """Standard deviation of ln PPL of a single run that one source makes, nats per token.

    `dof` are the degrees of freedom of the mean square that it comes from: one less than the draws; the runs
    less the draws; for test documents the number of documents that their error rests on.
    """

    deviation: float
    dof: int | float


@dataclass(frozen=True)
class Spread:
    """The components at one size; a source that these runs do not identify is not in `components`."""

    size: int
    """Training documents."""
    draws: int
    """With distinct results."""
    runs: int
    components: Mapping[Source, Component]

    @property
    def largest(self) -> Source:
        return max(self.components, key=lambda source: self.components[source].deviation)


def spreads(losses: Losses) -> list[Spread]:
    """One per size of a line, or of a difference of two, smallest first.

    Model, run i of draw d: ln PPL = mu + draw_d + initialisation_di on these test documents, by `nested`.
    Draws of as many documents differ in tokens: every ln PPL is first moved along the exponent of the line,
    where it has one, to the mean ln tokens of its size. Test documents: the variance over bootstrapped sets
    of as many of them, the mean over runs. What a draw does to some test documents only is in both.
    """
    sizes = losses.points.distinct_sizes
    alpha = exponent(losses).value if len(sizes) > 1 else 0.0
    return [_spread(_without_copies(losses.at(size)), alpha) for size in sizes]


def nested(values: np.ndarray, draws: Sequence[Hashable]) -> dict[Source, Component]:
    """The variance components of a one-way nested design, balanced or not, as standard deviations.

    Analysis of variance by the method of moments (Searle, Casella & McCulloch 1992, chapter 3): with n_d of N
    values in each of a draws, initialisation^2 = MSW, within draws, and draw^2 = (MSB - MSW) / n_0, not below
    0, n_0 = (N - sum n_d^2 / N) / (a - 1). With one value per draw MSB is of both together. Empty for a
    single value.

    Args:
        values: ln PPL of the runs, (N,).
        draws: the draw of each, (N,).
    """
    groups = [values[[other == draw for other in draws]] for draw in dict.fromkeys(draws)]
    counts = np.array([len(group) for group in groups])
    between, within = len(groups) - 1, len(values) - len(groups)
    found: dict[Source, Component] = {}
    msw = 0.0
    if within > 0:
        msw = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups) / within
        found["initialisation"] = Component(float(np.sqrt(msw)), within)
    if between > 0:
        means = np.array([group.mean() for group in groups])
        msb = float(counts @ (means - values.mean()) ** 2) / between
        per_draw = (len(values) - float(counts @ counts) / len(values)) / between
        deviation = float(np.sqrt(max(msb - msw, 0.0) / per_draw))
        found["draw" if within > 0 else "draw and initialisation"] = Component(deviation, between)
    return found


def _spread(runs: Losses, alpha: float) -> Spread:
    points = runs.points
    found = nested(points.log_ppl - alpha * points.log_tokens, points.draws)
    n = len(runs.tokens)
    variance = float(resampled(runs.nats, runs.tokens).var(axis=0, ddof=1).mean()) * n / (n - 1)
    mean = runs.nats.mean(axis=0)
    rest = effective_count(mean - mean.sum() / runs.tokens.sum() * runs.tokens)
    found["test documents"] = Component(float(np.sqrt(variance)), rest)
    return Spread(int(points.sizes[0]), len(set(points.draws)), len(points.draws), found)


def _without_copies(runs: Losses) -> Losses:
    """The losses without draws whose losses another one has. Initialisations that change nothing stay:
    they tell so."""
    kept = set(runs.by_draw().distinct().points.draws)
    return runs.kept(np.array([draw in kept for draw in runs.points.draws]))
