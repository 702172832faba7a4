"""Where models stand at the largest size that all of them share, and the one that a page is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from cvfp.records.results import PointRecord
from cvfp.report.changes import LineChange
from cvfp.report.lines import Line, capped
from cvfp.scaling.points import Cell, Change, cells, mean_over

JOINT, TWO_PHASE = "cvfp-joint", "cvfp"
"""The two trainings of the model that a report is about, the one it is about where both are there first."""
MIXTURE = "mixture"


def reference_arm(lines: Iterable[Line]) -> str:
    """The arm that a report is about: the first of the two that has a score; `cvfp` where neither has one."""
    return JOINT if any(line.arm == JOINT and line.scored for line in lines) else TWO_PHASE


@dataclass(frozen=True)
class Standing:
    """One line at the common size: a cell per common draw, in order of draws."""

    line: Line
    cells: tuple[Cell, ...]

    @property
    def points(self) -> tuple[PointRecord, ...]:
        """Its runs there."""
        return tuple(run for cell in self.cells for run in cell.runs)

    @property
    def ppl(self) -> float:
        """exp of the mean loss over draws."""
        return geometric_mean(cell.val_ppl for cell in self.cells)

    def mean(self, name: str) -> float | None:
        """Mean of a field over draws; None when a run does not have it."""
        return mean_over(self.cells, name)

    @property
    def capped(self) -> bool:
        return any(capped(point) for point in self.points)


@dataclass(frozen=True)
class Headline:
    """The common size, and where every line with a score stands there, lowest perplexity first."""

    num_samples: int
    draws: tuple[int, ...]
    standings: tuple[Standing, ...]


def rivals(top: Headline | None) -> list[Standing]:
    """Models on their own, best first at the common size: no mixtures, none with a pretrained token table."""
    if top is None:
        return []
    alone = [one for one in top.standings if one.line.arm != MIXTURE]
    fair = [one for one in alone if not one.line.pretrained]
    return fair or alone


def opponent(ranked: Sequence[Standing], reference: Line | None) -> Standing | None:
    """The one to set beside the best of all: the reference where it is not the best itself, else the next
    of another arm."""
    if not ranked:
        return None
    best, others = ranked[0], ranked[1:]
    if best.line is not reference:
        return next((one for one in others if one.line is reference), None)
    return next((one for one in others if one.line.arm != best.line.arm), others[0] if others else None)


@dataclass(frozen=True)
class Comparison:
    """Another line against one of the reference arm, on the same tokens: the change of PPL from its own."""

    reference: Standing
    other: Standing
    change: Change

    @property
    def lost(self) -> bool:
        """The other line is lower, and the interval is wholly below 0; a mixture of it has not beaten it."""
        return self.change.value < 0 and bool(self.change.distinguishable) and not self.mixed

    @property
    def mixed(self) -> bool:
        """Whether the other line is a mixture that the reference is part of."""
        return mixes(self.other.line, self.reference.line.arm)

    @property
    def equal_terms(self) -> bool:
        """False when one of the two uses a pretrained token table and the other does not."""
        return self.reference.line.pretrained == self.other.line.pretrained


def headline(lines: Sequence[Line]) -> Headline | None:
    """The lines at the largest size where each has a score with the same draws; None where there is none."""
    scored = [line for line in lines if line.scored]
    places = [{(point.num_samples, point.draw) for point in line.scored} for line in scored]
    common = set.intersection(*places) if places else set()
    if not common:
        return None
    size = max(num_samples for num_samples, _ in common)
    draws = tuple(sorted(draw for num_samples, draw in common if num_samples == size))
    standings = [_standing(line, size, draws) for line in scored]
    return Headline(size, draws, tuple(sorted(standings, key=lambda standing: standing.ppl)))


def reference_of(top: Headline) -> str:
    """The arm that the others are compared with."""
    return reference_arm(standing.line for standing in top.standings)


def reference_line(top: Headline) -> Line | None:
    """The best line of that arm."""
    arm = reference_of(top)
    return next((standing.line for standing in top.standings if standing.line.arm == arm), None)


def mixes(line: Line, arm: str) -> bool:
    """Whether a line is a mixture that an arm is part of."""
    return line.arm == MIXTURE and arm in line.config.mixture.arms


def comparisons(top: Headline) -> list[Comparison]:
    """The reference arm's best line against that of every other arm, as far as they have the same tokens."""
    best = {}
    for standing in top.standings:
        best.setdefault(standing.line.arm, standing)
    reference = best.pop(reference_of(top), None)
    if reference is None:
        return []
    changes = [
        (other, LineChange(reference.line, other.line).ppl_at(top.num_samples)) for other in best.values()
    ]
    return [Comparison(reference, other, change) for other, change in changes if change is not None]


def _standing(line: Line, size: int, draws: Sequence[int]) -> Standing:
    at_size = {cell.draw: cell for cell in cells(line.scored) if cell.num_samples == size}
    return Standing(line, tuple(at_size[draw] for draw in draws))
