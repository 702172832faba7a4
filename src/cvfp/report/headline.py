"""Arms side by side at the largest size that all lines share; the model in question against others."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cvfp.records.results import PointRecord
from cvfp.report import markdown, numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line, capped, tuned_text
from cvfp.report.markdown import plain
from cvfp.report.verdicts import verdict
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
        return mean_over(self.cells, "val_ppl")

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


def comparison_texts(found: Sequence[Comparison]) -> list[str]:
    """A sentence or two per comparison with the best line of the reference arm, as Markdown."""
    return [_comparison_text(one) for one in found]


def uncompared(top: Headline) -> list[Standing]:
    """Lines that were trained on other tokens, or scored on other texts, than the reference arm's best."""
    arm = reference_of(top)
    reference = next((standing for standing in top.standings if standing.line.arm == arm), None)
    if reference is None:
        return []
    others = [standing for standing in top.standings if standing is not reference]
    return [other for other in others if not _compared(reference, other, top.num_samples)]


def headline_table(top: Headline) -> str:
    """A row per line; the best of each group that may be ranked together is bold."""
    marks = {
        name: _best(top, name, choose)
        for name, choose in (("val_ppl", min), ("val_acc", max), ("bits_per_byte", min))
    }
    header = (
        _("line"),
        _("settings"),
        _("training tokens"),
        _("val PPL"),
        _("val accuracy"),
        _("bits per byte"),
        _("ER"),
        _("parameters"),
        _("of these trained"),
        _("seconds"),
    )
    return markdown.table(header, [_row(standing, marks) for standing in top.standings], left=2)


MARKS = {True: ("▲", "▼"), False: ("≈", "≈"), None: ("", "")}
"""Behind a change that is told from none: higher, lower; one that is not; one without a verdict."""


def relative_table(top: Headline) -> str:
    """The reference line's PPL at each of its sizes, and the change to every other line on the same tokens.

    Empty where there is no such line, or no other one has a pair with it.
    """
    lines, reference = [standing.line for standing in top.standings], reference_line(top)
    if reference is None:
        return ""
    by_size: dict[int, list[Cell]] = {}
    for cell in cells(reference.scored):
        by_size.setdefault(cell.num_samples, []).append(cell)
    changes = {line.label: LineChange(reference, line) for line in lines if line is not reference}
    found = {label: [one.ppl_at(size) for size in by_size] for label, one in changes.items()}
    rows = [
        [plain(label), *(numbers.ABSENT if change is None else _marked(change) for change in row)]
        for label, row in found.items()
        if any(change is not None for change in row)
    ]
    if not rows:
        return ""
    own = [markdown.bold(numbers.ppl(mean_over(at_size, "val_ppl"))) for at_size in by_size.values()]
    header = (_("line"), *map(numbers.count, by_size))
    return markdown.table(header, [[markdown.bold(plain(reference.label)), *own], *rows])


def _marked(change: Change) -> str:
    """`+3.1% (+1.0% to +5.2%) ▲`."""
    higher, lower = MARKS[None if change.one_draw else change.distinguishable]
    parts = [numbers.signed_percent(change.value)]
    if change.interval is not None:
        parts.append(f"({numbers.signed_percent_interval(change.interval)})")
    return " ".join([*parts, higher if change.value > 0 else lower]).strip()


def mixture_table(top: Headline) -> str:
    """The share of every arm that a mixture is made of; empty without mixtures that tell theirs."""
    rows = [row for standing in top.standings if standing.line.arm == MIXTURE for row in _shares(standing)]
    return markdown.table((_("mixture"), _("arm"), _("weight")), rows, left=2) if rows else ""


def _shares(standing: Standing) -> list[list[str]]:
    runs = dict(zip(standing.line.points, standing.line.runs, strict=True))
    told = [getattr(runs[point].facts, "weights", None) for point in standing.points if runs[point]]
    known = [weights for weights in told if isinstance(weights, dict)]
    return [
        [plain(standing.line.label), plain(arm), numbers.share(statistics.fmean(w[arm] for w in known))]
        for arm in (standing.line.config.mixture.arms if known else ())
        if all(isinstance(weights.get(arm), int | float) for weights in known)
    ]


def _standing(line: Line, size: int, draws: Sequence[int]) -> Standing:
    at_size = {cell.draw: cell for cell in cells(line.scored) if cell.num_samples == size}
    return Standing(line, tuple(at_size[draw] for draw in draws))


def _comparison_text(one: Comparison) -> str:
    ours, other = plain(one.reference.line.label), plain(one.other.line.label)
    parts = [
        _("{ours} {our_ppl}, {other} {ppl}: {change}.").format(
            ours=ours,
            our_ppl=numbers.ppl(one.reference.ppl),
            other=other,
            ppl=numbers.ppl(one.other.ppl),
            change=_change_words(one.change, other),
        )
    ]
    if one.mixed:
        parts.append(_("It is part of that mixture ({arms}).").format(arms=_parts(one.other.line)))
    if not one.equal_terms:
        parts.append(_("Not on equal terms: only one of the two uses a pretrained token table."))
    if one.lost:
        parts.append(markdown.bold(_("Here {ours} loses to {other}.").format(ours=ours, other=other)))
    return sentences(*parts)


def _parts(mixture: Line) -> str:
    return plain(" + ".join(mixture.config.mixture.arms))


def _change_words(change: Change, other: str) -> str:
    percent = numbers.signed_percent(change.value)
    if change.interval is None:
        return _("{other} {percent}, one pair of results: no verdict").format(other=other, percent=percent)
    text = _("{other} {percent}, 95% interval over {what} {interval}, paired over {pairs} draws: {verdict}")
    if change.one_draw:
        text = _("{other} {percent}, one draw, 95% interval over {what} {interval}: {verdict}")
    return text.format(
        other=other,
        percent=percent,
        what=numbers.interval_over(change.kind),
        interval=numbers.signed_percent_interval(change.interval),
        pairs=change.pairs,
        verdict=verdict(change),
    )


def _compared(reference: Standing, other: Standing, num_samples: int) -> bool:
    pairs = LineChange(reference.line, other.line).pairs
    return any(pair[0].num_samples == num_samples for pair in pairs)


def _value(standing: Standing, name: str) -> float | None:
    return standing.ppl if name == "val_ppl" else standing.mean(name)


def _best(top: Headline, name: str, choose: Callable) -> dict[bool, float]:
    """The best value among lines with a pretrained table, and among those without, where they are several."""
    best = {}
    for pretrained in (False, True):
        group = [_value(s, name) for s in top.standings if s.line.pretrained == pretrained]
        known = [value for value in group if value is not None]
        if len(known) > 1:
            best[pretrained] = choose(known)
    return best


def _row(standing: Standing, marks: dict[str, dict[bool, float]]) -> list[str]:
    def marked(name: str, shown: Callable[[float | None], str]) -> str:
        value = _value(standing, name)
        is_best = value is not None and value == marks[name].get(standing.line.pretrained)
        return markdown.bold(shown(value)) if is_best else shown(value)

    return [
        _name(standing),
        tuned_text(standing.line),
        numbers.count(standing.mean("train_tokens")),
        marked("val_ppl", numbers.ppl),
        marked("val_acc", numbers.share),
        marked("bits_per_byte", numbers.bits),
        numbers.share(standing.mean("val_er")),
        numbers.count(standing.mean("total_params")),
        numbers.count(standing.mean("trained_params")),
        numbers.seconds(standing.mean("wall_seconds")),
    ]


def _name(standing: Standing) -> str:
    marks = ("†" if standing.line.pretrained else "") + ("‡" if standing.capped else "")
    return plain(standing.line.label) + marks
