"""Which line to take for which goal, and whether its lead is supported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cvfp.records.schema import N_
from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.headline import MIXTURE, Headline, Standing, headline
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.points import Change, field_change
from cvfp.scaling.summary import law_of, of_two_sizes

Value = Callable[[Standing, Headline], float | None]
Difference = Callable[[LineChange, Headline], Change | None]


@dataclass(frozen=True)
class Goal:
    """What is wanted: the line with the lowest `value` (None: does not take part), and how it is compared."""

    name: str
    value: Value
    shown: Callable[[float], str]
    difference: Difference


def _field(name: str) -> Difference:
    """A difference over the pairs at the size where the lines stand side by side."""

    def difference(change: LineChange, top: Headline) -> Change | None:
        return field_change([pair for pair in change.pairs if pair[0].num_samples == top.num_samples], name)

    return difference


def _alpha(standing: Standing, top: Headline) -> float | None:
    """The exponent over the sizes that all lines it is ranked with, those with a law, have in their fits."""
    same_kind = (each.line for each in top.standings if each.line.pretrained == standing.line.pretrained)
    rivals = [line for line in same_kind if line.law is not None]
    if standing.line not in rivals:
        return None
    common = set.intersection(*({point.num_samples for point in line.fitted} for line in rivals))
    points = [point for point in standing.line.fitted if point.num_samples in common]
    return law_of(points).alpha if of_two_sizes(points) else None


def _negated_rank(standing: Standing, top: Headline) -> float | None:
    rank = standing.mean("val_er")
    return None if rank is None else -rank


def _iterations(standing: Standing, top: Headline) -> float | None:
    """Mean iterations of phase 1; None when a run ended at its cap: its number is a lower bound."""
    ended = {run.point: run.phase1_converged for run in standing.line.runs if run is not None}
    if any(ended.get(point) is False for point in standing.points):
        return None
    return standing.mean("phase1_iter")


def _seconds(standing: Standing, top: Headline) -> float | None:
    """Mean wall time; a mixture's is without that of what it mixes, so it does not take part."""
    return None if standing.line.arm == MIXTURE else standing.mean("wall_seconds")


GOALS = (
    Goal(
        N_("lowest perplexity"),
        lambda s, top: s.ppl,
        numbers.ppl,
        lambda change, top: change.ppl_at(top.num_samples),
    ),
    Goal(
        N_("steepest scaling (α)"),
        _alpha,
        numbers.exponent,
        lambda change, top: change.alpha,
    ),
    Goal(N_("highest effective rank"), _negated_rank, lambda rank: numbers.share(-rank), _field("val_er")),
    Goal(
        N_("fewest iterations of phase 1"),
        _iterations,
        numbers.average,
        _field("phase1_iter"),
    ),
    Goal(
        N_("shortest run (seconds)"),
        _seconds,
        numbers.seconds,
        _field("wall_seconds"),
    ),
)


def recommendation_table(lines: Sequence[Line]) -> str:
    """One row per goal: the line that leads, its value, and the lines that are not told apart from it.

    Values are those at the largest common size; exponents are over the sizes that all have in their fits.
    Lines with a pretrained token table are ranked among themselves, and marked. Empty without such a size.
    """
    top = headline(lines)
    if top is None:
        return ""
    header = (_("goal"), _("line"), _("value"), _("not told apart from"))
    rows = [
        row
        for pretrained in (False, True)
        for goal in GOALS
        if (row := _row(goal, top, pretrained)) is not None
    ]
    return table(header, rows, left=2) if rows else ""


def _row(goal: Goal, top: Headline, pretrained: bool) -> list[str] | None:
    known = [(each, goal.value(each, top)) for each in top.standings if each.line.pretrained == pretrained]
    known = [(standing, value) for standing, value in known if value is not None]
    if not known:
        return None
    best, value = min(known, key=lambda pair: pair[1])
    others = [standing for standing, _value in known if standing is not best]
    name = plain(best.line.label) + ("†" if pretrained else "")
    return [_(goal.name), name, goal.shown(value), _support(goal, best, others, top)]


def _support(goal: Goal, best: Standing, others: Sequence[Standing], top: Headline) -> str:
    """The lines that are not told apart from the best one, in words where none or all are."""
    if not others:
        return _("no other line to compare")
    changes = [(other, goal.difference(LineChange(best.line, other.line), top)) for other in others]
    if all(change is None for _other, change in changes):
        return _("any: not comparable, no verdict")
    if all(change is None or change.one_draw for _other, change in changes):
        return _("any: one draw, no verdict")
    unsure = [plain(other.line.label) for other, change in changes if not (change and change.distinguishable)]
    return ", ".join(unsure) or _("none")
