"""The tables of a comparison of versions: a row per line and pair of versions, at equal tokens."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.results import PointRecord
from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.report.verdicts import alpha_verdict, verdict
from cvfp.scaling.cells import mean_over
from cvfp.scaling.line_fit import law_of
from cvfp.scaling.pairs import Change, Pair


@dataclass(frozen=True)
class Step:
    """A line of a version (`change.other`) beside the one of an earlier version that belongs to it.

    Both lines are labelled by their versions; `name` is what they have in common.
    """

    name: str
    change: LineChange

    @property
    def same_results(self) -> bool:
        """Whether all pairs have one perplexity: versions that differ in nothing that this arm reads."""
        pairs = self.change.pairs
        return bool(pairs) and all(a.val_ppl == b.val_ppl for a, b in pairs)

    @property
    def cells(self) -> list[str]:
        """The first two cells of its rows."""
        return [plain(self.name), f"{plain(self.change.reference.label)} → {plain(self.change.other.label)}"]


def alpha_table(steps: Sequence[Step]) -> str:
    """Exponents of all sizes, then of the common ones, with the change of those."""
    header = (
        *_names(),
        _("α before, all sizes"),
        _("α after, all sizes"),
        _("common documents"),
        _("α before"),
        _("α after"),
        _("change"),
        _("95% interval"),
        _("percent"),
        _("verdict"),
    )
    return table(header, [_alpha_row(step) for step in steps if step.change.alpha is not None], left=2)


def ppl_table(steps: Sequence[Step]) -> str:
    """Perplexity at every common size."""
    header = (*_names(), _("documents"), _("training tokens"), *_values())
    rows = [row for step in steps for row in _ppl_rows(step)]
    return table(header, rows, left=2)


def share_table(steps: Sequence[Step], name: str) -> str:
    """A share of the records (accuracy, effective rank) at the largest common size; empty if none has it."""
    rows = [row for step in steps if (row := _share_row(step, name)) is not None]
    return table((*_names(), _("documents"), *_values()), rows, left=2) if rows else ""


def iteration_table(steps: Sequence[Step]) -> str:
    """Iterations of phase 1 at the largest common size; empty without a phase 1.

    What ended at its cap is a lower bound: there is no change, and no percentage, from one.
    """
    rows = [row for step in steps if (row := _iteration_row(step)) is not None]
    return table((*_names(), _("documents"), *_values()), rows, left=2) if rows else ""


def _names() -> tuple[str, ...]:
    return _("line"), _("versions")


def _values() -> tuple[str, ...]:
    return _("before"), _("after"), _("change"), _("95% interval"), _("percent"), _("verdict")


def _alpha_row(step: Step) -> list[str]:
    pairs, change = step.change.fitted_pairs, step.change.alpha
    before, after = (law_of(_runs(pairs, side)).alpha for side in (0, 1))
    sizes = sorted({a.num_samples for a, _b in pairs})
    return [
        *step.cells,
        numbers.exponent(step.change.reference.summary.alpha),
        numbers.exponent(step.change.other.summary.alpha),
        numbers.count_range((sizes[0], sizes[-1])),
        numbers.exponent(before),
        numbers.exponent(after),
        numbers.signed_exponent(change.value),
        numbers.signed_exponent_interval(change.interval),
        numbers.signed_percent(100 * change.value / abs(before)),
        alpha_verdict(change),
    ]


def _ppl_rows(step: Step) -> list[list[str]]:
    sizes = dict.fromkeys(a.num_samples for a, _b in step.change.pairs)
    return [
        _ppl_row(step, [pair for pair in step.change.pairs if pair[0].num_samples == size]) for size in sizes
    ]


def _ppl_row(step: Step, pairs: list[Pair]) -> list[str]:
    change = step.change.ppl_at(pairs[0][0].num_samples)
    before, after = _means(pairs, "val_ppl")
    return [
        *step.cells,
        numbers.count(pairs[0][0].num_samples),
        numbers.count(statistics.fmean(a.train_tokens for a, _b in pairs)),
        numbers.ppl(before),
        numbers.ppl(after),
        numbers.signed_decimals(after - before, 1),
        numbers.signed_percent_interval(change.interval),
        numbers.signed_percent(change.value),
        verdict(change),
    ]


def _share_row(step: Step, name: str) -> list[str] | None:
    change = step.change.field(name)
    if change is None:
        return None
    before, after = _means(step.change.top, name)
    return [
        *step.cells,
        numbers.count(step.change.num_samples),
        numbers.share(before),
        numbers.share(after),
        numbers.signed_points(change.value),
        numbers.signed_points_interval(change.interval),
        numbers.signed_percent(100 * change.value / before),
        verdict(change),
    ]


def _iteration_row(step: Step) -> list[str] | None:
    change = step.change.field("phase1_iter")
    if change is None:
        return None
    before, after = _means(step.change.top, "phase1_iter")
    lines, censored = (step.change.reference, step.change.other), _censored
    ended = [censored(line, _runs(step.change.top, side)) for side, line in enumerate(lines)]
    values = [
        f"≥ {numbers.average(value)}" if cap else numbers.average(value)
        for value, cap in zip((before, after), ended, strict=True)
    ]
    return [
        *step.cells,
        numbers.count(step.change.num_samples),
        *values,
        *_iteration_change(change, before, ended),
    ]


def _iteration_change(change: Change, before: float, ended: Sequence[bool]) -> list[str]:
    if any(ended):
        return [numbers.ABSENT, numbers.ABSENT, numbers.ABSENT, _("no verdict")]
    bounds = change.interval
    interval = numbers.ABSENT
    if bounds is not None:
        interval = numbers.between(*(numbers.signed_decimals(bound, 1) for bound in bounds))
    percent = numbers.signed_percent(100 * change.value / before)
    return [numbers.signed_decimals(change.value, 1), interval, percent, verdict(change)]


def _censored(line: Line, points: Sequence[PointRecord]) -> bool:
    """Whether a run behind these points ended phase 1 at its cap."""
    return any(
        run is not None and run.phase1_converged is False
        for point, run in zip(line.points, line.runs, strict=True)
        if point in points
    )


def _runs(pairs: Sequence[Pair], side: int) -> list[PointRecord]:
    return [run for pair in pairs for run in pair[side].runs]


def _means(pairs: Sequence[Pair], name: str) -> tuple[float, float]:
    before, after = (mean_over([pair[side] for pair in pairs], name) for side in (0, 1))
    return before, after
