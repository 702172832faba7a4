"""The points of one line, as arrays: what every analysis of a line starts from."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import Number, Numbers

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
    def distinct_sizes(self) -> list[Number]:
        """Smallest first."""
        return np.unique(self.sizes).tolist()

    def kept(self, keep: np.ndarray) -> Points:
        """Those that a mask or an array of indices (n,) picks."""
        draws = tuple(self.draws[index] for index in np.arange(len(self.draws))[keep])
        return Points(self.tokens[keep], self.ppl[keep], self.sizes[keep], draws)

    def of_sizes(self, sizes: Collection[Number]) -> Points:
        """Those of the given sizes."""
        return self.kept(np.isin(self.sizes, list(sizes)))

    def cells(self) -> list[np.ndarray]:
        """Where the points of each size and draw stand: initialisations of one training set."""
        members: dict[Hashable, list[int]] = {}
        for index, key in enumerate(zip(self.sizes.tolist(), self.draws, strict=True)):
            members.setdefault(key, []).append(index)
        return [np.array(indices) for indices in members.values()]

    def by_draw(self) -> Points:
        """One point per size and draw: the mean of ln PPL over its initialisations."""
        found = self.cells()
        if len(found) == len(self.draws):
            return self
        means = [np.exp(self.log_ppl[cell].mean()) for cell in found]
        first = self.kept(np.array([cell[0] for cell in found]))
        return Points(first.tokens, np.array(means), first.sizes, first.draws)

    def units(self, least_sizes: int) -> list[np.ndarray]:
        """Where the points of each unit of inference stand.

        A unit is a draw of at least `least_sizes` distinct sizes, where at least two draws have them;
        else one unit holds all points.
        """
        members = {
            draw: np.array([other == draw for other in self.draws]) for draw in dict.fromkeys(self.draws)
        }
        draws = [np.flatnonzero(inside) for inside in members.values()]
        large = [unit for unit in draws if len(np.unique(self.sizes[unit])) >= least_sizes]
        return large if len(large) > 1 else [np.arange(len(self.tokens))]

    def fewest_sizes(self, units: Sequence[np.ndarray]) -> int:
        """Distinct sizes of the unit that has the fewest."""
        return min(len(np.unique(self.sizes[unit])) for unit in units)

    def folds(self) -> list[list[Number]]:
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


def matched(first: Points, second: Points) -> list[tuple[int, int]]:
    """Indices of points of equal size, draw and tokens, in the order of the first."""
    known = {key: index for index, key in enumerate(_keys(second))}
    return [(i, known[key]) for i, key in enumerate(_keys(first)) if key in known]


def _keys(points: Points) -> list[tuple]:
    return list(zip(points.sizes.tolist(), points.draws, points.tokens.tolist(), strict=True))
