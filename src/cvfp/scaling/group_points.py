"""The points of a group of rows: tokens, perplexities, sizes, draws, and how exactly they are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.draws import earlier_copies, lone_draws
from cvfp.scaling.points import Points, points_of
from cvfp.scaling.rows import Row

Note = Callable[[str], None]

LARGEST_LOSS = 700.0
"""Nats; exp of more is beyond a float."""


@dataclass(frozen=True)
class Columns:
    """The columns a fit reads; `samples`, `seed` and `draw` are None in a file without them.

    `draw` holds the seed that the documents of a row were drawn with, where that is not its `seed`. `nats`: y
    holds losses in nats, not perplexities.
    """

    x: str
    y: str
    samples: str | None
    seed: str | None
    draw: str | None = None
    nats: bool = False


@dataclass(frozen=True, eq=False)
class GroupPoints:
    """The points of one group, with the rows they come from, and half a printed unit of each as ln PPL (n,).

    Numbers of samples are sizes where every row has a whole one, else tokens are.
    """

    rows: Sequence[Row]
    columns: Columns
    points: Points
    half_units: np.ndarray

    @property
    def sizes_are_samples(self) -> bool:
        return _has_samples(self.rows, self.columns)

    def kept(self, keep: np.ndarray) -> GroupPoints:
        """Those marked with True (n,)."""
        rows = [row for row, kept in zip(self.rows, keep, strict=True) if kept]
        return GroupPoints(rows, self.columns, self.points.kept(keep), self.half_units[keep])


def read_points(rows: Sequence[Row], columns: Columns) -> GroupPoints:
    """All rows of a group; initialisations of one draw and size as one point, the mean of ln PPL over them.

    Raises:
        InputError: a value that is not a positive number, a perplexity below 1, a loss of 700 nats or more;
            names the row and the column.
    """
    tokens = [row.positive(columns.x) for row in rows]
    written = np.array([row.positive(columns.y) for row in rows])
    half = np.array([row.half_unit(columns.y) for row in rows])
    if columns.nats:
        for row, loss in zip(rows, written, strict=True):
            if loss >= LARGEST_LOSS:
                raise InputError(
                    f"{row.where}: column {columns.y!r}: {loss:g} nats is no loss; is it a perplexity?"
                )
    ppl = np.exp(written) if columns.nats else written
    draws = [_draw(row, columns) for row in rows]
    sizes = [row.whole(columns.samples) for row in rows] if _has_samples(rows, columns) else None
    points = points_of(tokens, ppl, draws, sizes)
    group = GroupPoints(rows, columns, points, half if columns.nats else half / ppl)
    return group if columns.draw is None else _by_draw(group)


def independent(name: str, group: GroupPoints, note: Note) -> GroupPoints:
    """Without copies of other seeds' results, and without seeds of a single size beside several."""
    if group.columns.seed is None:
        return group
    copies = earlier_copies(list(zip(group.points.tokens.tolist(), group.points.ppl.tolist(), strict=True)))
    kept = group.kept(np.array([copy is None for copy in copies], dtype=bool))
    lone = lone_draws(kept.points.tokens.tolist(), kept.points.draws)
    left = kept.kept(np.array([seed not in lone for seed in kept.points.draws], dtype=bool))
    if len(kept.rows) < len(group.rows):
        count = len(group.rows) - len(kept.rows)
        note(f"{name}: {count} rows repeat the result of another seed and are left out")
    if lone:
        note(f"{name}: seeds with a single size are left out: {', '.join(sorted(lone))}")
    return left


def _draw(row: Row, columns: Columns) -> str:
    if columns.seed is None:
        return ""
    known = None if columns.draw is None else row.values.get(columns.draw)
    return row.text(columns.seed) if known in (None, "") else str(row.whole(columns.draw))


def _by_draw(group: GroupPoints) -> GroupPoints:
    """One point per size and draw, with the first of its rows."""
    found = group.points.cells()
    half = np.array([group.half_units[cell].mean() for cell in found])
    rows = [group.rows[cell[0]] for cell in found]
    return GroupPoints(rows, group.columns, group.points.by_draw(), half)


def _has_samples(rows: Sequence[Row], columns: Columns) -> bool:
    if columns.samples is None:
        return False
    try:
        return all(row.whole(columns.samples) > 0 for row in rows)
    except InputError:  # sizes are then told by tokens
        return False
