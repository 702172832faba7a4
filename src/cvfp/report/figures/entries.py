"""What a figure of versions shows: the exponents of each line, and its results at equal tokens."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.results import PointRecord
from cvfp.report.changes import LineChange
from cvfp.report.figures.forest import Mark, mean_mark
from cvfp.report.lines import Line
from cvfp.report.versions import Row
from cvfp.scaling.line_fit import law_of

Key = tuple[int, int]
"""(num_samples, draw) of a point."""


@dataclass(frozen=True)
class Iterations:
    """Mean iterations of phase 1; `censored` where a run ended at its cap: it would have taken more."""

    value: float
    censored: bool


@dataclass(frozen=True)
class Entry:
    """A line of one version, by the index of the version; None for what it does not have.

    `alpha` is of all its sizes, its other value of the common ones where those are fewer. The rest is at the
    group's size.
    """

    version: int
    alpha: Mark | None
    rank: Mark | None
    iterations: Iterations | None
    ppl: Mark | None
    accuracy: Mark | None


@dataclass(frozen=True)
class Group:
    """Lines that belong together, one entry per version that has one.

    `num_samples` is the largest size at which all of them were trained on the same tokens and scored on the
    same text; None where there is none.
    """

    name: str
    num_samples: int | None
    entries: tuple[Entry, ...]


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """A group per row that at least two versions have and that has anything to show."""
    groups = [_group(row) for row in rows if sum(line is not None for line in row.lines) > 1]
    return [group for group in groups if any(_known(entry) for entry in group.entries)]


def _group(row: Row) -> Group:
    numbered = [(index, line) for index, line in enumerate(row.lines) if line is not None]
    lines = [line for _index, line in numbered]
    keys = _common(lines)
    size = max((num_samples for num_samples, _draw in keys), default=None)
    top = {key for key in keys if key[0] == size}
    fitted = keys.intersection(*({_key(point) for point in line.fitted} for line in lines))
    return Group(row.name, size, tuple(_entry(index, line, top, fitted) for index, line in numbered))


def _common(lines: Sequence[Line]) -> set[Key]:
    """The points that all lines have on the same tokens, scored on the same text."""
    first, *others = lines
    pairs = ({(a.num_samples, a.draw) for a, _b in LineChange(first, other).pairs} for other in others)
    return set.intersection(*pairs)


def _key(point: PointRecord) -> Key:
    return point.num_samples, point.draw


def _entry(version: int, line: Line, top: set[Key], fitted: set[Key]) -> Entry:
    points = [point for point in line.scored if _key(point) in top]
    return Entry(
        version=version,
        alpha=_alpha(line, fitted),
        rank=mean_mark([_percent(point.val_er) for point in points]),
        iterations=_iterations(line, points),
        ppl=mean_mark([point.val_ppl for point in points], geometric=True),
        accuracy=mean_mark([_percent(point.val_acc) for point in points]),
    )


def _alpha(line: Line, fitted: set[Key]) -> Mark | None:
    """The exponent of all sizes; beside it that of the common ones, where those are others and make a law."""
    if line.summary.alpha is None:
        return None
    common = [point for point in line.fitted if _key(point) in fitted]
    sizes = {point.num_samples for point in common}, {point.train_tokens for point in common}
    has_law = min(map(len, sizes)) > 1 and len(common) < len(line.fitted)
    law = law_of(common) if has_law else None
    other = None if law is None else Mark(law.alpha, law.alpha_ci95)
    return Mark(line.summary.alpha, line.summary.alpha_ci95, other=other)


def _iterations(line: Line, points: Sequence[PointRecord]) -> Iterations | None:
    values = [point.phase1_iter for point in points]
    if not values or None in values:
        return None
    runs = [run for point, run in zip(line.points, line.runs, strict=True) if point in points]
    censored = any(run is not None and run.phase1_converged is False for run in runs)
    return Iterations(statistics.fmean(values), censored)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _known(entry: Entry) -> bool:
    return any(value is not None for value in (entry.alpha, entry.rank, entry.iterations, entry.ppl))
