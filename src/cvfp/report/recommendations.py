"""Which model to take for which goal, and whether its lead is supported."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _, listed
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, plain, table
from cvfp.report.standings import MIXTURE, Headline, Standing, headline
from cvfp.scaling.points import Change, field_change

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


def _negated_accuracy(standing: Standing, top: Headline) -> float | None:
    accuracy = standing.mean("val_acc")
    return None if accuracy is None else -accuracy


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
    Goal(N_("highest accuracy"), _negated_accuracy, lambda value: numbers.share(-value), _field("val_acc")),
    Goal(
        N_("fewest parameters"),
        lambda s, top: s.mean("total_params"),
        numbers.short_count,
        _field("total_params"),
    ),
    Goal(N_("shortest run (seconds)"), _seconds, numbers.seconds, _field("wall_seconds")),
)


def recommendation_table(lines: Sequence[Line]) -> str:
    """One row per goal: the line that leads, its value, and the lines that are not told apart from it.

    Values are those at the largest common size; exponents are over the sizes that all have in their fits.
    Lines with a pretrained token table are ranked among themselves, and marked. Empty without such a size.
    """
    top = headline(lines)
    if top is None:
        return ""
    rows = [
        choice
        for pretrained in (False, True)
        for goal in GOALS
        if (choice := _choice(goal, top, pretrained)) is not None
    ]
    columns = [
        Column[_Choice](_("goal"), lambda row: _(row.goal.name), words=True),
        Column[_Choice](_("model"), lambda row: row.name, words=True),
        Column[_Choice](_("value"), lambda row: row.goal.shown(row.value)),
        Column[_Choice](_("no clear difference from"), lambda row: row.support),
    ]
    return table(columns, rows)


@dataclass(frozen=True)
class _Choice:
    """The model that leads for a goal, and which others are as good."""

    goal: Goal
    name: str
    value: float
    support: str


def _choice(goal: Goal, top: Headline, pretrained: bool) -> _Choice | None:
    known = [(each, goal.value(each, top)) for each in top.standings if each.line.pretrained == pretrained]
    known = [(standing, value) for standing, value in known if value is not None]
    if not known:
        return None
    best, value = min(known, key=lambda pair: pair[1])
    others = [standing for standing, _value in known if standing is not best]
    name = plain(best.line.label) + ("†" if pretrained else "")
    return _Choice(goal, name, value, _support(goal, best, others, top))


def _support(goal: Goal, best: Standing, others: Sequence[Standing], top: Headline) -> str:
    """The models that are not told apart from the best one, in words where none or all are."""
    if not others:
        return _("no other model to compare")
    changes = [(other, goal.difference(LineChange(best.line, other.line), top)) for other in others]
    if all(change is None for _other, change in changes):
        return _("any: not comparable, no verdict")
    if all(change is None or change.one_draw for _other, change in changes):
        return _("any: one seed, no verdict")
    unsure = [plain(other.line.label) for other, change in changes if not (change and change.distinguishable)]
    return listed(unsure) or _("none")
