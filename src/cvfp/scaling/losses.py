"""The losses of the runs of a line, or of the difference of two lines, on each of the same test documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.errors import InputError
from cvfp.records.results import RunRecord
from cvfp.scaling.draws import earlier_copies
from cvfp.scaling.points import Points, matched, points_of
from cvfp.scaling.power_law import Number


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
        """Without runs whose losses another run of that size has: a seed that changes nothing."""
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
    _check_runs(runs)
    tokens = np.array(runs[0].test_documents.tokens)
    counted = tokens > 0
    if counted.sum() < 2:
        raise InputError(f"what test documents vary by needs at least two of them, got {counted.sum()}")
    nats = np.array([run.test_documents.nats for run in runs])[:, counted]
    rows = [run.point for run in runs]
    ppl = np.exp(nats.sum(axis=1) / tokens.sum())
    trained, sizes = [row.train_tokens for row in rows], [row.num_samples for row in rows]
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
        raise InputError("the two lines have no runs of equal size, draw and training tokens")
    mine, other = (np.array(indices) for indices in zip(*pairs, strict=True))
    one = first.points.kept(mine)
    ratio = Points(one.tokens, second.points.ppl[other] / one.ppl, one.sizes, one.draws)
    return Losses(ratio, second.nats[other] - first.nats[mine], first.tokens)


def _check_runs(runs: Sequence[RunRecord]) -> None:
    if not runs:
        raise InputError("the losses of a line: at least one run is needed")
    seen: set[tuple[int, int]] = set()
    for run in runs:
        size, seed = run.point.num_samples, run.point.seed
        name = f"the run of {run.point.arm} with {size} documents and seed {seed}"
        if run.test_documents is None:
            raise InputError(f"{name}: the losses of its test documents are not recorded")
        if run.test_documents.tokens != runs[0].test_documents.tokens:
            raise InputError(f"{name}: was scored on other test documents than the first run")
        if (size, seed) in seen:
            raise InputError(f"{name}: is there twice; the runs of one line are needed")
        seen.add((size, seed))
