"""What to run next: the claim that a page begins with, and which addition to the sweep narrows it most."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from typing import Any

from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import code, plain
from cvfp.report.standings import opponent, rivals
from cvfp.report.verdicts import interval_text
from cvfp.report.view import View
from cvfp.scaling.next_run import BEYOND, LEAST_SIZES, Addition, Known, design_of, known_of, next_runs
from cvfp.scaling.points import Change, Points, points_of
from cvfp.scaling.summary import line_points


@dataclass(frozen=True)
class Claim:
    """What is in question: the difference of two models, or the PPL of a lone one, at one size."""

    line: Line
    """The best model."""
    other: Line | None
    """What the page holds against it; None where there is no other, or none on the same tokens."""
    known: Known

    def value_text(self) -> str:
        """`lstm against cvfp-joint at 1,600 documents: +11.7% (95% interval +8.1% to +15.4%)`; plain text."""
        known, interval = self.known, self.known.interval()
        documents = numbers.count(known.size)
        if self.other is None:
            text = _("{model} at {documents} documents: test PPL {ppl}")
            ppl = numbers.ppl(math.exp(known.value))
            return text.format(model=self.line.label, documents=documents, ppl=ppl)
        change = Change(known.percent(known.value), interval, known.seeds)
        text = _("{other} against {model} at {documents} documents: {change}")
        if known.measured is not None:
            text = _("{other} against {model} at {documents} documents, not run yet, by a line: {change}")
        return text.format(
            other=self.other.label, model=self.line.label, documents=documents, change=interval_text(change)
        )

    def values(self) -> dict[str, Any]:
        """The same as JSON values; `percent` is PPL(other) / PPL(model) - 1, None of a lone model."""
        known = self.known
        return {
            "model": self.line.label,
            "other": None if self.other is None else self.other.label,
            "num_samples": known.size,
            "has_run": known.measured is None,
            "seeds": known.seeds,
            "percent": known.percent(known.value) if known.ratio else None,
            "ci95": known.interval(),
        }


def claim_of(view: View) -> Claim | None:
    """The difference that the page begins with: at the largest common size, as long as it is not clear there;
    then at twice the largest size, as far as the corpus reaches and three sizes foretell something of it.

    None where no run has a score, or models share no size.
    """
    ranked = rivals(view.top)
    if view.top is None or not ranked:
        return None
    best, size, other = ranked[0].line, view.top.num_samples, opponent(ranked, view.reference)
    change = None if other is None else LineChange(best, other.line)
    ppl = None if change is None else change.ppl_at(size)
    if change is None or ppl is None:
        known = known_of(line_points(best.scored), size, best.losses(best.scored), ratio=False)
        return Claim(best, None, known)
    ratios, design = _ratios_of(change), design_of(view.sweep)
    larger = BEYOND * design.sizes[-1]
    if ppl.distinguishable and design.reaches(larger) and len(ratios.distinct_sizes) >= LEAST_SIZES:
        size = larger
    return Claim(best, change.other, known_of(ratios, size, change.losses))


def _ratios_of(change: LineChange) -> Points:
    return points_of(
        [a.tokens for a, _b in change.pairs],
        [b.val_ppl / a.val_ppl for a, b in change.pairs],
        [a.draw for a, _b in change.pairs],
        [a.num_samples for a, _b in change.pairs],
    )


def additions_to(view: View, claim: Claim | None) -> list[Addition]:
    """What could be added to a sweep that was read from a directory, the best first."""
    return next_runs(view.sweep, None if claim is None else claim.known)


def command_of(view: View, addition: Addition) -> str:
    """`cvfp run DIR --seeds 3`, as a shell takes it."""
    place = view.place if "/" in view.place else f"./{view.place}"  # a bare name is a preset's first
    return f"cvfp run {shlex.quote(place)} {addition.options}".rstrip()


@dataclass(frozen=True)
class NextRun:
    """A command and what it would settle, as Markdown; `seconds` of this machine's past runs, if known."""

    command: str
    why: str
    seconds: float | None

    @property
    def text(self) -> str:
        """`cvfp run DIR --seeds 3` (about 4 min): why."""
        if self.seconds is None:
            return _("{command}: {why}.").format(command=code(self.command), why=self.why)
        return _("{command} (about {time}): {why}.").format(
            command=code(self.command), why=self.why, time=numbers.about(self.seconds)
        )


def next_run(view: View) -> NextRun | None:
    """The best of `additions_to`; None for published tables, without a score, or where nothing narrows the
    claim."""
    if view.sweep.files is None or view.reference is None:
        return None
    claim = claim_of(view)
    best = next(iter(additions_to(view, claim)), None)
    why = None if best is None else _why(claim, best)
    return None if best is None or why is None else NextRun(command_of(view, best), why, best.seconds)


def what_text(addition: Addition) -> str:
    """What it adds, in a few words."""
    texts = {
        "missing": _("planned runs without a record: {count}"),
        "seeds": _("more seeds: {count}"),
        "between": _("a size between: {count} documents"),
        "beyond": _("a size beyond: {count} documents"),
    }
    if addition.what == "seeds" and addition.count == 1:
        return _("one more seed")
    return texts[addition.what].format(count=numbers.count(addition.count))


def _why(claim: Claim | None, best: Addition) -> str | None:
    if best.what == "missing":
        if best.count == 1:
            return _("one planned run has no record yet")
        return _("{count} planned runs have no record yet").format(count=best.count)
    if claim is None or (best.now is not None and not best.narrower):
        return None
    if best.now is None or best.then is None:
        return _("an interval over seeds for every difference")
    text = _(
        "test PPL of {model} at {documents} documents then has a 95% interval of about {then} "
        "instead of {now}, the most for its time"
    )
    if claim.other is not None:
        text = _(
            "the difference between {model} and {other} at {documents} documents then has a 95% "
            "interval of about {then} instead of {now}, the most for its time"
        )
    said = text.format(
        model=plain(claim.line.label),
        other="" if claim.other is None else plain(claim.other.label),
        documents=numbers.count(claim.known.size),
        now=numbers.percent_reach(best.now),
        then=numbers.percent_reach(best.then),
    )
    return _("{what}; {said}").format(what=what_text(best), said=said) if best.what == "seeds" else said
