"""What parts of a model are worth, size by size: the context, phase 1, and settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from cvfp.report import numbers
from cvfp.report.blocks import Block, Fold, Section, present
from cvfp.report.changes import LineChange, changes_within_arms
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, plain, table
from cvfp.report.standings import TWO_PHASE
from cvfp.report.verdicts import change_cell, interval_text, marks_text
from cvfp.report.view import View
from cvfp.scaling.draws import holm
from cvfp.scaling.points import Change

WITHOUT_PHASE1, WITHOUT_CONTEXT = "random-context", "no-context"
ABLATIONS = (WITHOUT_PHASE1, WITHOUT_CONTEXT)
"""Of the two-phase model."""


def section(view: View) -> Section | None:
    """None where nothing but the models themselves differs."""
    family = Family(tuple(compared(view.lines)))
    if not family.changes:
        return None
    note = sentences(
        _("A percentage is PPL(model) / PPL(reference) − 1, paired, with its 95% interval; {marks}.").format(
            marks=marks_text()
        ),
        _(
            "A hollow mark (▽, △) does not survive the correction for the number of differences in the table "
            "(Holm, 5% for all together)."
        ),
        _("Where several settings differ, none of them can be credited."),
    )
    settings = changes_within_arms(view.lines)
    return Section(
        _("What each part is worth"),
        present(
            [family_table(family), note, Fold(_("Exponents and ranks by setting"), _by_setting(settings))]
        ),
    )


def _by_setting(changes: Sequence[LineChange]) -> tuple[Block, ...]:
    if not changes:
        return ()
    note = _(
        "Every setting against the nearest before it, at equal tokens and seeds. α and A are of the law of "
        "the ratio of the two perplexities over all common sizes in both fits; PPL and ER are at the largest "
        "common size."
    )
    return changes_table(changes), note


@dataclass(frozen=True, eq=False)
class Family:
    """Differences of one table, told from none together: at most 5% of such tables have a false one."""

    changes: tuple[LineChange, ...]

    @property
    def sizes(self) -> list[int]:
        """The sizes in documents."""
        return sorted({a.num_samples for change in self.changes for a, _b in change.pairs})

    @cached_property
    def clear(self) -> dict[tuple[int, int], bool]:
        """Whether a difference is told from none, by the index of the change and the size."""
        known = {
            (index, size): p
            for index, change in enumerate(self.changes)
            for size in self.sizes
            if (p := change.p_value_at(size)) is not None
        }
        return dict(zip(known, holm(list(known.values())), strict=True))

    def cell(self, change: LineChange, size: int) -> str:
        """The difference with its interval and its mark."""
        return change_cell(change.ppl_at(size), self.clear.get((self.changes.index(change), size)))


def compared(lines: Sequence[Line]) -> list[LineChange]:
    """The two-phase model against itself without a part, and every other setting of a model against the
    nearest before it."""
    return [change for change in (*ablation_changes(lines), *changes_within_arms(lines)) if change.pairs]


def ablation_changes(lines: Sequence[Line]) -> list[LineChange]:
    """The two-phase model against its ablations, where nothing else differs."""
    changes = (
        LineChange(other, line)
        for line in lines
        if line.arm == TWO_PHASE
        for other in sorted(lines, key=lambda one: one.arm)
        if other.arm in ABLATIONS
    )
    return [change for change in changes if [setting.key for setting in change.settings] == ["arm"]]


def family_table(family: Family) -> str:
    """A row per difference, a column per size."""
    columns = [
        Column[LineChange](_("what"), _what, words=True),
        Column[LineChange](_("model"), lambda change: plain(change.other.label), words=True),
        Column[LineChange](
            _("reference / documents"), lambda change: plain(change.reference.label), words=True
        ),
        *(
            Column[LineChange](
                numbers.count(size),
                lambda change, size=size: family.cell(change, size),
            )
            for size in family.sizes
        ),
    ]
    return table(columns, family.changes)


def _what(change: LineChange) -> str:
    names = {WITHOUT_CONTEXT: _("the context"), WITHOUT_PHASE1: _("phase 1")}
    if change.reference.arm in names and change.other.arm == TWO_PHASE:
        return names[change.reference.arm]
    return plain(", ".join(map(str, change.settings)) or _("nothing"))


# --- Settings of one model against each other.


def changes_table(changes: Sequence[LineChange]) -> str:
    """A row per setting: parameters, exponent, factor, perplexity and rank beside those of the one before."""
    columns = [
        Column[LineChange](_("model"), lambda change: plain(change.other.label), words=True),
        Column[LineChange](_("reference"), lambda change: plain(change.reference.label), words=True),
        Column[LineChange](
            _("what differs"), lambda change: plain(", ".join(map(str, change.settings))), words=True
        ),
        Column[LineChange](_("context-block params"), _parameters),
        Column[LineChange](_("change of α"), _exponent),
        Column[LineChange](
            _("95% interval"),
            lambda change: numbers.signed_exponent_interval(change.alpha and change.alpha.interval),
        ),
        Column[LineChange](_("change of A"), _factor),
        Column[LineChange](_("at documents"), lambda change: numbers.count(change.num_samples)),
        Column[LineChange](_("change of test PPL"), lambda change: change_cell(change.ppl)),
        Column[LineChange](_("change of test ER"), _rank),
    ]
    return table(columns, changes)


def _parameters(change: LineChange) -> str:
    before = change.reference.summary.context_block_params
    after = change.other.summary.context_block_params
    return numbers.ABSENT if not before or after is None else f"{after / before:.2f}×"


def _exponent(change: LineChange) -> str:
    return numbers.ABSENT if change.alpha is None else numbers.signed_exponent(change.alpha.value)


def _factor(change: LineChange) -> str:
    return numbers.ABSENT if change.ratio is None else numbers.signed_percent(100 * (change.ratio.A - 1))


def _rank(change: LineChange) -> str:
    rank = change.field("val_er")
    return numbers.signed_points(rank and rank.value)


# --- The questions of the first screen.


MOST_ANSWERS = 2
"""Variants of a model that have an answer each; of more the best one has."""


def question_texts(view: View) -> list[str]:
    """Does the context help, does phase 1 help: a short answer each, as far as there is one.

    They are corrected as in the table, for all of its differences.
    """
    family = Family(tuple(compared(view.lines)))
    texts = {
        WITHOUT_CONTEXT: _("**Does the context help {model}?**"),
        WITHOUT_PHASE1: _("**Does phase 1 help {model}?**"),
    }
    found = []
    for arm, question in texts.items():
        changes = [
            change
            for change in family.changes
            if change.reference.arm == arm and change.other.arm == TWO_PHASE
        ]
        ranked = sorted(changes, key=lambda change: _rank_of(view, change.other))
        shown = ranked if len(ranked) <= MOST_ANSWERS else ranked[:1]
        found += [
            sentences(
                question.format(model=plain(one.other.label)), _help(family, one), _others(ranked, shown)
            )
            for one in shown
        ]
    return found


def _rank_of(view: View, line: Line) -> int:
    return view.scored.index(line) if line in view.scored else len(view.scored)


def _others(changes: Sequence[LineChange], shown: Sequence[LineChange]) -> str:
    """What the answers that are not given lie between, at the largest size of each."""
    values = {index: one.percent for index, one in enumerate(changes) if one not in shown}
    if not values:
        return ""
    text = _("{count} more variants: {range}, size by size below.")
    return text.format(count=len(values), range=_range(values))


def _help(family: Family, change: LineChange) -> str:
    sizes = sorted({a.num_samples for a, _b in change.pairs})
    found = {size: change.ppl_at(size) for size in sizes}
    known = {size: one for size, one in found.items() if one is not None}
    if all(one.one_draw for one in known.values()):
        text = _("1 seed, indicative only: {change} at {documents} documents.")
        return text.format(
            change=numbers.signed_percent(known[sizes[-1]].value), documents=numbers.count(sizes[-1])
        )
    index = family.changes.index(change)
    clear = {size: one for size, one in known.items() if family.clear.get((index, size))}
    better = {size: one for size, one in clear.items() if one.value < 0}
    worse = {size: one for size, one in clear.items() if one.value > 0}
    alone = sum(bool(one.distinguishable) for one in known.values())
    uncorrected = _("Uncorrected, {alone} of {count} intervals exclude 0.").format(
        alone=alone, count=len(known)
    )
    if not clear:
        text = _("No clear difference at any of {count} sizes ({range}).").format(
            count=len(known), range=_range(known)
        )
        return sentences(text, uncorrected) if alone else text
    parts = []
    if better:
        text = _("Yes at {clear} of {count} sizes: {range} at {sizes} documents.")
        parts.append(_counted(text, better, known))
    if worse:
        text = _("It hurts at {clear} of {count} sizes: {range} at {sizes} documents.")
        parts.append(_counted(text, worse, known))
    if len(clear) < len(known):
        parts.append(_("Elsewhere there is no clear difference."))
    if alone > len(clear):
        parts.append(uncorrected)
    return sentences(*parts)


def _counted(text: str, some: dict[int, Change], known: dict[int, Change]) -> str:
    sizes = ", ".join(numbers.count(size) for size in some)
    return text.format(clear=len(some), count=len(known), range=_range(some), sizes=sizes)


def _range(changes: dict[int, Change]) -> str:
    values = sorted(change.value for change in changes.values())
    if len(values) == 1:
        (change,) = changes.values()
        return interval_text(change)
    return numbers.between(numbers.signed_percent(values[0]), numbers.signed_percent(values[-1]))
