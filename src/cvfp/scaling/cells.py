"""The runs of one line on one draw and size: they differ by initialisation alone, and count as one result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, geometric_mean

from cvfp.records.results import PointRecord


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
    def val_ppl(self) -> float:
        """exp of the mean loss over the initialisations."""
        ppl = [run.val_ppl for run in self.runs]
        return geometric_mean(ppl) if len(ppl) > 1 else ppl[0]

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
    values = [cell.mean(name) for cell in group]
    if not values or None in values:
        return None
    return geometric_mean(values) if name == "val_ppl" else fmean(values)
