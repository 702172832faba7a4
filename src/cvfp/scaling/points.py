"""The points of a line, as arrays; the runs that count as one result; and the points of two lines in pairs.

Every analysis of a line, and every comparison of two, starts here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

import numpy as np

from cvfp.records.errors import InputError
from cvfp.records.results import OF_ONE_DRAW, IntervalKind, PointRecord
from cvfp.scaling.draws import Estimate, Law, across_draws, fit_draws, full_draws, places_of
from cvfp.scaling.power_law import Numbers

REPEATED = 1.05
"""Times that a training token is read from which data count as repeated. A last batch that wraps is not."""
MOST_FOLDS = 12
"""Parts that sizes are left out in: one by one up to this many, so that long curves take no longer."""


@dataclass(frozen=True, eq=False)
class Points:
    """Training tokens, perplexities, sizes and draws of n points; made by `points_of`.

    `sizes` says which points are of one size: numbers of samples where draws of one size differ in tokens.
    """

    tokens: np.ndarray
    ppl: np.ndarray
    sizes: np.ndarray
    draws: tuple[Hashable, ...]

    @property
    def log_tokens(self) -> np.ndarray:
        return np.log(self.tokens)

    @property
    def log_ppl(self) -> np.ndarray:
        """The loss, nats per token."""
        return np.log(self.ppl)

    @property
    def distinct_sizes(self) -> list[int | float]:
        """Smallest first."""
        return np.unique(self.sizes).tolist()

    def kept(self, keep: np.ndarray) -> Points:
        """Those that a mask or an array of indices (n,) picks."""
        draws = tuple(self.draws[index] for index in np.arange(len(self.draws))[keep])
        return Points(self.tokens[keep], self.ppl[keep], self.sizes[keep], draws)

    def of_sizes(self, sizes: Collection[int | float]) -> Points:
        """Those of the given sizes."""
        return self.kept(np.isin(self.sizes, list(sizes)))

    def cells(self) -> list[np.ndarray]:
        """Where the points of each size and draw stand: initialisations of one training set."""
        members: dict[Hashable, list[int]] = {}
        for index, key in enumerate(zip(self.sizes.tolist(), self.draws, strict=True)):
            members.setdefault(key, []).append(index)
        return [np.array(indices) for indices in members.values()]

    def by_draw(self) -> Points:
        """One point per size and draw: the mean of ln PPL over its initialisations, and that of ln D where
        they differ in it."""
        found = self.cells()
        if len(found) == len(self.draws):
            return self
        means = [np.exp(self.log_ppl[cell].mean()) for cell in found]
        first = self.kept(np.array([cell[0] for cell in found]))
        tokens = [
            self.tokens[cell[0]] if np.ptp(self.tokens[cell]) == 0 else np.exp(self.log_tokens[cell].mean())
            for cell in found
        ]
        return Points(np.array(tokens), np.array(means), first.sizes, first.draws)

    def units(self, least_sizes: int) -> list[np.ndarray]:
        """Where the points of each unit of inference stand.

        They are the `full_draws`, where there are two; else one unit holds all points.
        """
        full, places = full_draws(self.sizes.tolist(), self.draws, least_sizes), places_of(self.draws)
        return [np.array(places[draw]) for draw in full] if full else [np.arange(len(self.tokens))]

    @property
    def short_draws(self) -> list[Hashable]:
        """Draws of so few sizes that no law is fitted to them, beside those that have one (`full_draws`)."""
        full = full_draws(self.sizes.tolist(), self.draws)
        return [draw for draw in dict.fromkeys(self.draws) if full and draw not in full]

    def fewest_sizes(self, units: Sequence[np.ndarray]) -> int:
        """Distinct sizes of the unit that has the fewest."""
        return min(len(np.unique(self.sizes[unit])) for unit in units)

    def folds(self) -> list[list[int | float]]:
        """The distinct sizes one by one; in `MOST_FOLDS` runs of neighbours where there are more."""
        sizes = self.distinct_sizes
        if len(sizes) <= MOST_FOLDS:
            return [[size] for size in sizes]
        return [run.tolist() for run in np.array_split(np.array(sizes), MOST_FOLDS)]


def points_of(
    tokens: Numbers, ppl: Numbers, draws: Sequence[Hashable] | None = None, sizes: Numbers | None = None
) -> Points:
    """The points of a line, (n,) values each.

    Args:
        tokens: training tokens.
        ppl: perplexities: exp of the loss in nats, per token or per byte.
        draws: the draw of each point; None: one draw.
        sizes: what makes two points the same size; None: the tokens.

    Raises:
        InputError: unequal lengths, tokens or perplexities that are not positive and finite.
    """
    tokens, ppl = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    size_of = tokens if sizes is None else np.asarray(sizes)
    draw_of = (None,) * len(tokens) if draws is None else tuple(draws)
    if not len(tokens) == len(ppl) == len(size_of) == len(draw_of):
        counts = ", ".join(str(len(values)) for values in (tokens, ppl, size_of, draw_of))
        raise InputError(f"tokens, ppl, sizes and draws: one value each per point is needed, got {counts}")
    for name, values in (("tokens", tokens), ("ppl", ppl)):
        bad = ~(np.isfinite(values) & (values > 0))
        if bad.any():
            raise InputError(f"{name}: must be positive and finite, got {values[bad][0]:g}")
    return Points(tokens, ppl, size_of, draw_of)


def range_of_passes(passes: Iterable[float | None]) -> tuple[float, float] | None:
    """Fewest and most times that points read a training token, of those that know it; None where none
    repeats its data.

    A law of repeated data is not that of as many fresh tokens (Muennighoff et al. 2023): its floor, above
    all, can be what reading again is worth, not what the text holds.
    """
    times = [each for each in passes if each is not None]
    if not times or max(times) < REPEATED:
        return None
    return min(times), max(times)


def matched(first: Points, second: Points) -> list[tuple[int, int]]:
    """Indices of points of equal size, draw and tokens, in the order of the first."""
    known = {key: index for index, key in enumerate(_keys(second))}
    return [(i, known[key]) for i, key in enumerate(_keys(first)) if key in known]


def _keys(points: Points) -> list[tuple]:
    return list(zip(points.sizes.tolist(), points.draws, points.tokens.tolist(), strict=True))


# --- The runs of one line on one draw and size: they differ by initialisation alone, and count as one result.


@dataclass(frozen=True)
class Cell:
    """At least one scored run of a line with so many documents of one draw.

    The draw is the unit of inference, so initialisations are averaged within it before anything else.
    """

    runs: tuple[PointRecord, ...]

    @property
    def num_samples(self) -> int:
        return self.runs[0].num_samples

    @property
    def draw(self) -> int:
        return self.runs[0].draw

    @property
    def train_tokens(self) -> int | None:
        return self.runs[0].train_tokens

    @property
    def tokens(self) -> int:
        """`train_tokens` of one that has them."""
        return self.runs[0].tokens

    @property
    def val_ppl(self) -> float:
        """exp of the mean loss over the initialisations."""
        ppl = [run.ppl for run in self.runs]
        return geometric_mean(ppl) if len(ppl) > 1 else ppl[0]

    def known(self, name: str) -> float:
        """`mean` of a field that every run has."""
        value = self.mean(name)
        assert value is not None
        return value

    def mean(self, name: str) -> float | None:
        """Mean of a field over the initialisations, geometric of `val_ppl`; None where a run lacks it."""
        if name == "val_ppl":
            return self.val_ppl
        values = [getattr(run, name) for run in self.runs]
        return None if None in values else fmean(values)


def cells(points: Iterable[PointRecord]) -> list[Cell]:
    """The scored points of one line by size and draw, in order of first appearance."""
    found: dict[tuple[int, int], list[PointRecord]] = {}
    for point in points:
        if point.val_ppl is not None:
            found.setdefault((point.num_samples, point.draw), []).append(point)
    return [Cell(tuple(runs)) for runs in found.values()]


def mean_over(group: Sequence[Cell], name: str) -> float | None:
    """Mean of a field over draws of their means over initialisations, geometric of `val_ppl`.

    None where there is no cell, or one does not know it.
    """
    values = [value for value in (cell.mean(name) for cell in group) if value is not None]
    if not values or len(values) < len(group):
        return None
    return geometric_mean(values) if name == "val_ppl" else fmean(values)


# --- Differences between two lines, paired: the same draw of as many training documents, the same tokens.
#
# What both sides of a pair share (the draw of documents, the test text) drops out of their difference. The
# draw is the unit of inference, as in `cvfp.scaling.draws`: initialisations are averaged within it, and pairs
# that repeat each other's results are one.


Pair = tuple[Cell, Cell]
"""What the reference line, and the other line, has on the same tokens."""


@dataclass(frozen=True)
class Change:
    """Mean change from the reference to the other line over distinct `pairs`.

    `interval` is its 95% Student-t interval over the pairs, None with one of them. `kind` is what it means:
    `line`, the deviation from a straight line over the sizes of one draw, and `documents`, what other test
    documents would give, say nothing of another draw.
    """

    value: float
    interval: tuple[float, float] | None
    pairs: int
    kind: IntervalKind = "draws"

    @property
    def one_draw(self) -> bool:
        """Whether it says nothing of other draws: without an interval, or with one of a single draw."""
        return self.interval is None or self.kind in OF_ONE_DRAW

    @property
    def distinguishable(self) -> bool | None:
        """Whether the interval excludes 0; None (no verdict) without an interval, and where one draw does."""
        if self.interval is None:
            return None
        excludes = not self.interval[0] <= 0 <= self.interval[1]
        return None if excludes and self.one_draw else excludes


def paired(reference: Sequence[PointRecord], other: Sequence[PointRecord]) -> list[Pair]:
    """The pairs of scored cells with equal `num_samples`, draw and training tokens, by size and draw."""
    known = {(cell.num_samples, cell.draw): cell for cell in cells(other)}
    pairs = [(cell, known.get((cell.num_samples, cell.draw))) for cell in cells(reference)]
    equal = [(a, b) for a, b in pairs if b and a.train_tokens and a.train_tokens == b.train_tokens]
    return sorted(equal, key=lambda pair: (pair[0].num_samples, pair[0].draw))


def at_largest_size(pairs: Sequence[Pair]) -> list[Pair]:
    """Those of the largest `num_samples`."""
    size = max((a.num_samples for a, _ in pairs), default=None)
    return [pair for pair in pairs if pair[0].num_samples == size]


def distinct(pairs: Sequence[Pair]) -> list[Pair]:
    """The points without pairs whose two perplexities another pair at that size has: a seed that changes
    neither arm."""
    found: dict[tuple[int, float, float], Pair] = {}
    for a, b in pairs:
        found.setdefault((a.num_samples, a.val_ppl, b.val_ppl), (a, b))
    return list(found.values())


def log_ratio(pairs: Sequence[Pair]) -> Estimate:
    """Mean ln(PPL_b / PPL_a) of at least one pair, with its error across them; none of a single one."""
    values = [math.log(b.val_ppl / a.val_ppl) for a, b in distinct(pairs)]
    return across_draws(values) if len(values) > 1 else Estimate(values[0], None, 0, "draws")


def ppl_change(pairs: Sequence[Pair]) -> Change:
    """Change of PPL in percent of the reference's, 100 * (exp(mean ln(b / a)) - 1), of at least one pair."""
    change = _mean([math.log(b.val_ppl / a.val_ppl) for a, b in distinct(pairs)])
    interval = change.interval and (percent(change.interval[0]), percent(change.interval[1]))
    return Change(percent(change.value), interval, change.pairs)


def field_change(pairs: Sequence[Pair], name: str) -> Change | None:
    """Change of any other field, b - a, in its own unit; None when a point does not have it."""
    values = [(a.mean(name), b.mean(name)) for a, b in distinct(pairs)]
    changes = [float(b - a) for a, b in values if a is not None and b is not None]
    return _mean(changes) if changes and len(changes) == len(values) else None


def law_of_ratio(pairs: Sequence[Pair]) -> Law | None:
    """The power law of PPL_b / PPL_a against tokens: its alpha is the difference of the two exponents.

    With several draws the mean of a law per draw, its interval across draws; with one draw least squares, its
    interval the deviation of the ratio from a straight line over sizes. None with fewer than two sizes.
    """
    kept = distinct(pairs)
    tokens = [a.tokens for a, _ in kept]
    if len(set(tokens)) < 2:
        return None
    return fit_draws(tokens, [b.val_ppl / a.val_ppl for a, b in kept], [a.draw for a, _ in kept])


def _mean(values: Sequence[float]) -> Change:
    interval = across_draws(values).interval if len(values) > 1 else None
    return Change(float(np.mean(values)), interval, len(values))


def percent(log_ratio: float) -> float:
    """The change in percent, 100 * (ratio - 1), of a ratio."""
    return 100 * math.expm1(log_ratio)
