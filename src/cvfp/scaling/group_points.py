"""The points that the rows of one group make: tokens, perplexities, sizes, draws, and how exactly they are
written."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.columns import Columns, Note
from cvfp.scaling.draws import earlier_copies, lone_draws
from cvfp.scaling.points import Points, points_of, range_of_passes
from cvfp.scaling.rows import Row, as_float, label_of
from cvfp.scaling.units import NATS_IN

EPOCHS, SEEN, DISTINCT = "epochs", "tokens_seen", "train_tokens"
"""Columns that say how often data were read: passes over them; tokens read, over distinct ones."""
FINE = 1e-5
"""Half a unit of the last printed digit, as a change of ln PPL, below which equal results are no chance."""
CHANCE = 1e-4
"""Of two seeds that print the same at all their sizes, below which one is a copy of the other."""
MANY_SIZES, GROUPS = 3000, 300
"""Sizes of a group, such as a log of a training has, from which neighbours are one point, and in how many
groups of equal ratio they are taken."""
UNEQUAL = 1.1
"""Ratio of the smallest or largest sizes of two seeds from which they cover unequal ranges."""


@dataclass(frozen=True, eq=False)
class GroupPoints:
    """The points of one group, with the rows they come from, and half a printed unit of each as ln PPL (n,).

    Numbers of samples are sizes where every row has a whole one, else tokens are.
    """

    rows: Sequence[Row]
    columns: Columns
    points: Points
    half_units: np.ndarray
    passes: tuple[float, float] | None = None
    """How often the data of all rows that were read were read (`passes_of`)."""
    num_sizes: int = 0
    """Of the rows, before neighbours are taken together (`MANY_SIZES`)."""

    @property
    def sizes_are_samples(self) -> bool:
        return _samples(self.rows, self.columns) is not None

    def kept(self, keep: np.ndarray) -> GroupPoints:
        """Those marked with True (n,)."""
        rows = [row for row, kept in zip(self.rows, keep, strict=True) if kept]
        points, half = self.points.kept(keep), self.half_units[keep]
        return GroupPoints(rows, self.columns, points, half, self.passes, self.num_sizes)


def read_points(rows: Sequence[Row], columns: Columns) -> GroupPoints:
    """All rows of a group; rows of one size and seed, or of one draw, as one point, the mean of ln PPL over
    them: without a column that tells seeds apart they are no independent results. Of very many sizes
    (`MANY_SIZES`), neighbours are one.

    Raises:
        InputError: a value that is not a positive number, or a perplexity below 1; names the row and the
        column.
    """
    nats = NATS_IN.get(columns.unit)
    tokens = [row.positive(columns.x) * columns.tokens_per_x for row in rows]
    written = np.array(
        [row.perplexity(columns.y) if nats is None else nats * row.positive(columns.y) for row in rows]
    )
    half = np.array([row.half_unit(columns.y) for row in rows])
    ppl = written if nats is None else np.exp(written)
    draws = [_draw(row, columns) for row in rows]
    sizes, num_sizes = _samples(rows, columns), len(set(tokens))
    if sizes is None and num_sizes > MANY_SIZES:
        sizes = _neighbours(np.array(tokens))
    points = points_of(tokens, ppl, draws, sizes)
    half = half / ppl if nats is None else nats * half
    group = GroupPoints(rows, columns, points, half, passes_of(rows, columns), num_sizes)
    return _by_draw(group)


def _neighbours(tokens: np.ndarray) -> np.ndarray:
    """One of the numbers of tokens for all that lie between the same two of `GROUPS` + 1 sizes of equal
    ratio."""
    edges = np.geomspace(tokens.min(), tokens.max(), GROUPS + 1)[1:-1]
    places = np.searchsorted(edges, tokens, side="right")
    known, group = np.unique(places, return_inverse=True)
    return np.array([tokens[places == place].min() for place in known])[group]


def passes_of(rows: Sequence[Row], columns: Columns) -> tuple[float, float] | None:
    """Fewest and most times that rows read a training token, where some repeat their data: by the column
    `epochs`, else by `tokens_seen` over the tokens. Rows with no positive number there do not say.
    """
    return range_of_passes(_passes(row, columns) for row in rows)


def _passes(row: Row, columns: Columns) -> float | None:
    def known(column: str) -> float | None:
        value = as_float(row.values.get(column))
        return value if value is not None and math.isfinite(value) and value > 0 else None

    if known(EPOCHS) is not None:
        return known(EPOCHS)
    seen, size = known(SEEN), known(columns.x)
    distinct = known(DISTINCT) or (None if size is None else size * columns.tokens_per_x)
    return None if seen is None or distinct is None else seen / distinct


def independent(name: str, group: GroupPoints, note: Note) -> GroupPoints:
    """The group without copies of other seeds' results, and without seeds of a single size beside several.

    Equal perplexities at equal tokens are a copy where they are written finely (`FINE`), or where the two
    seeds agree at all sizes that both have, and that is no chance (`CHANCE`) as far as other seeds differ.
    """
    if group.columns.seed is None or not group.rows:
        return group
    copies = _copies(group)
    kept = group.kept(np.array([copy is None for copy in copies], dtype=bool))
    lone = lone_draws(kept.points.tokens.tolist(), kept.points.draws)
    left = kept.kept(np.array([seed not in lone for seed in kept.points.draws], dtype=bool))
    if len(kept.rows) < len(group.rows):
        count = len(group.rows) - len(kept.rows)
        note(f"{name}: {count} rows repeat the result of another seed and are left out")
    if lone:
        note(f"{name}: seeds with a single size are left out: {', '.join(sorted(map(str, lone)))}")
    if short := left.points.short_draws:
        names = ", ".join(sorted(map(str, short)))
        note(f"{name}: seeds with less than half of the sizes count in the forecast alone: {names}")
    _note_seeds(name, left, note)
    return left


def _note_seeds(name: str, group: GroupPoints, note: Note) -> None:
    """Say so when seeds have other sizes than others, or cannot be told apart by the digits that are
    there."""
    sizes: dict[Hashable, list[float]] = {}
    results: dict[Hashable, dict[float, float]] = {}
    for seed, size, ppl in zip(
        group.points.draws, group.points.sizes.tolist(), group.points.ppl.tolist(), strict=True
    ):
        sizes.setdefault(seed, []).append(size)
        results.setdefault(seed, {})[size] = ppl
    ranges = {seed: (min(each), max(each)) for seed, each in sizes.items()}
    widest = min(low for low, _high in ranges.values()), max(high for _low, high in ranges.values())
    short = {
        seed: (low, high)
        for seed, (low, high) in ranges.items()
        if low > UNEQUAL * widest[0] or UNEQUAL * high < widest[1]
    }
    if short:
        others = ", ".join(f"{seed} ({low:g} to {high:g})" for seed, (low, high) in short.items())
        note(
            f"{name}: these seeds do not have all sizes from {widest[0]:g} to {widest[1]:g}: {others}; "
            "where the curve bends, their exponents differ for that alone"
        )
    if len(results) > 1 and all(one == next(iter(results.values())) for one in results.values()):
        note(
            f"{name}: all {len(results)} seeds print the same; with so few digits nothing is known of how "
            "they differ, and intervals over seeds are too narrow"
        )


def _copies(group: GroupPoints) -> list[int | None]:
    """Which row of another seed each row repeats; None where it repeats none."""
    tokens, ppl = group.points.tokens.tolist(), group.points.ppl.tolist()
    draws = group.points.draws
    results = {
        draw: {size: value for size, value, of in zip(tokens, ppl, draws, strict=True) if of == draw}
        for draw in dict.fromkeys(draws)
    }
    half_units = dict(zip(tokens, group.half_units.tolist(), strict=True))

    def repeats(draw: Hashable, other: Hashable) -> bool:
        common = results[draw].keys() & results[other].keys()
        if len(common) < 2 or any(results[draw][size] != results[other][size] for size in common):
            return False
        spread = _spread([one for name, one in results.items() if name != draw])
        if not spread:
            return False
        # Results of standard deviation s round to one multiple of u with probability u / (2 s sqrt(pi)).
        chances = [min(1.0, half_units[size] / (spread * math.sqrt(math.pi))) for size in common]
        return math.prod(chances) < CHANCE

    found = earlier_copies(list(zip(tokens, ppl, strict=True)))
    return [
        earlier if earlier is None or half < FINE or repeats(draw, draws[earlier]) else None
        for draw, half, earlier in zip(draws, group.half_units.tolist(), found, strict=True)
    ]


def _spread(results: Sequence[dict[float, float]]) -> float:
    """The standard deviation of ln PPL between seeds at one size, pooled; 0 where no size has two seeds."""
    at: dict[float, list[float]] = {}
    for of_seed in results:
        for size, ppl in of_seed.items():
            at.setdefault(size, []).append(math.log(ppl))
    several = [np.array(each) for each in at.values() if len(each) > 1]
    freedom = sum(len(each) - 1 for each in several)
    return math.sqrt(sum(((each - each.mean()) ** 2).sum() for each in several) / freedom) if freedom else 0.0


def _draw(row: Row, columns: Columns) -> str:
    if columns.seed is None:
        return ""
    if columns.draw is None or row.values.get(columns.draw) in (None, ""):
        return label_of(row.text(columns.seed))
    return str(row.whole(columns.draw))


def _by_draw(group: GroupPoints) -> GroupPoints:
    """One point per size and draw, with the first of its rows."""
    found = group.points.cells()
    half = np.array([group.half_units[cell].mean() for cell in found])
    rows = [group.rows[cell[0]] for cell in found]
    return GroupPoints(rows, group.columns, group.points.by_draw(), half, group.passes, group.num_sizes)


def _samples(rows: Sequence[Row], columns: Columns) -> list[int] | None:
    """Numbers of samples, where every row has one; else sizes are told by tokens."""
    if columns.samples is None:
        return None
    try:
        found = [row.whole(columns.samples) for row in rows]
    except InputError:
        return None
    return found if all(number > 0 for number in found) else None
