"""Conclusions, derived by stated rules: every sentence carries its numbers, with intervals if there are any.

A verdict (lower, higher, steeper) is given only where the 95% interval of a paired difference at equal tokens
excludes 0. A cause is named only where one setting, or the arm alone, differs.
"""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.sweep import Sweep
from cvfp.report import numbers
from cvfp.report.changes import LineChange, changes_within_arms
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line, capped
from cvfp.report.markdown import plain
from cvfp.report.sections.ablations import ABLATIONS, ablation_changes
from cvfp.report.sections.forms import law_conclusions, window_conclusions
from cvfp.report.sections.prediction import forecast_conclusions
from cvfp.report.standings import (
    JOINT,
    TWO_PHASE,
    Comparison,
    Headline,
    Standing,
    comparisons,
    headline,
    reference_arm,
)
from cvfp.report.verdicts import alpha_text, points_text, ppl_text

# --- The model in question beside every arm that is none of its ablations, in words.


def against_rivals(lines: Sequence[Line]) -> list[str]:
    """The best line of the reference arm beside each that is no ablation: at both ends, and the exponent."""
    reference = reference_arm(lines)
    ours = [line for line in lines if line.arm == reference and line.scored]
    if not ours:
        return []
    best = min(ours, key=lambda line: min(point.ppl for point in line.scored))
    changes = [LineChange(line, best) for line in lines if line.arm not in (reference, *ABLATIONS)]
    return [_rival_change_text(change) for change in changes if change.pairs]


def _rival_change_text(change: LineChange) -> str:
    """Between the two trainings of the model too much differs for a cause to be named."""
    text = _both_ends_text(change)
    if change.reference.arm != TWO_PHASE or change.other.arm != JOINT:
        return text
    differs = _(
        "The objective differs, and with it cell, output layer and recipe as far as their settings do: none "
        "of them can be credited."
    )
    return sentences(text, differs)


def _both_ends_text(change: LineChange) -> str:
    sizes = dict.fromkeys([change.pairs[0][0].num_samples, change.top[0][0].num_samples])
    ends = _("; ").join(
        _("{ppl} at {documents} documents").format(ppl=ppl_text(ppl), documents=numbers.count(size))
        for size in sizes
        if (ppl := change.ppl_at(size)) is not None
    )
    return _("{line} against {other}, PPL: {ends}; exponent {alpha}.").format(
        line=plain(change.other.label),
        other=plain(change.reference.label),
        ends=ends,
        alpha=alpha_text(change.alpha),
    )


# --- The conclusions of a sweep, one after the other.


def conclusions(sweep: Sweep, lines: Sequence[Line]) -> list[str]:
    """One sentence or two per rule that applies, as Markdown, from the most to the least general."""
    top = headline(lines)
    return [
        *([] if top is None else [*_best(top), *_losses(top)]),
        *_ablations(lines),
        *against_rivals(lines),
        *_settings(lines),
        *window_conclusions(lines),
        *law_conclusions(lines),
        *_ranks(lines),
        *_convergence(lines),
        *forecast_conclusions(lines),
        *_flags(sweep, lines),
    ]


def _best(top: Headline) -> list[str]:
    """Which line is lowest at the largest common size, and which others cannot be told from it.

    Lines with a pretrained token table are ranked among themselves.
    """
    groups = [[one for one in top.standings if one.line.pretrained == kind] for kind in (False, True)]
    return [_leader_text(group, top.num_samples) for group in groups if group]


def _leader_text(group: Sequence[Standing], num_samples: int) -> str:
    best, others = group[0], group[1:]
    text = _("At {documents} documents {line} has the lowest test PPL, {ppl}.")
    if not others:
        text = _("At {documents} documents {line} has test PPL {ppl}.")
    if best.line.pretrained:
        text = _("At {documents} documents {line} is lowest of those with a pretrained token table, {ppl}.")
    sentence = text.format(
        documents=numbers.count(num_samples), line=plain(best.line.label), ppl=numbers.ppl(best.ppl)
    )
    if not others:
        return sentence
    apart = _("on other tokens")
    changes = [(other, LineChange(best.line, other.line).ppl_at(num_samples)) for other in others]
    unsure = [
        f"{plain(other.line.label)} {ppl_text(ppl) if ppl else apart}"
        for other, ppl in changes
        if not ppl or not ppl.distinguishable
    ]
    rest = _("Every other model is higher, and its paired interval excludes 0.")
    if all(ppl and ppl.one_draw for _other, ppl in changes):
        rest = _("There is one seed for each comparison: no verdict on the order.")
    elif unsure:
        rest = _("No clear difference from it: {lines}.").format(lines=_("; ").join(unsure))
    return sentences(sentence, rest)


def _losses(top: Headline) -> list[str]:
    """Which arms are lower than the reference arm's best line: told apart from it, or by one draw.

    An arm with a pretrained token table, which the reference does not have, has not beaten it, nor has a
    mixture that it is part of.
    """
    apart = [one for one in comparisons(top) if not one.mixed]
    fair = [one for one in apart if one.equal_terms or one.reference.line.pretrained]
    lower = [one for one in fair if one.change.value < 0]
    told = _("At {documents} documents {line} loses to {lines}.")
    single = _("At {documents} documents {line} is higher than {lines}; one seed each: no verdict.")
    return [
        text.format(
            documents=numbers.count(top.num_samples),
            line=plain(beaten[0].reference.line.label),
            lines=listed(_rival_text(one) for one in beaten),
        )
        for text, beaten in (
            (told, [one for one in lower if one.lost]),
            (single, [one for one in lower if one.change.one_draw]),
        )
        if beaten
    ]


def _rival_text(one: Comparison) -> str:
    other, percent = plain(one.other.line.label), numbers.signed_percent(one.change.value)
    return _("{line} ({change})").format(line=other, change=percent)


def _ablations(lines: Sequence[Line]) -> list[str]:
    """What phase 1, and the context at all, change: lines of the two-phase model beside the same without."""
    texts = {
        "random-context": _("Phase 1 ({line} instead of {other}, no other setting differs)"),
        "no-context": _("The context ({line} instead of {other}, no other setting differs)"),
    }
    return [
        _("{what}: PPL {ppl} at {documents} documents; exponent {alpha}.").format(
            what=texts[change.reference.arm].format(
                line=plain(change.other.label), other=plain(change.reference.label)
            ),
            ppl=ppl_text(change.ppl),
            documents=numbers.count(change.num_samples),
            alpha=alpha_text(change.alpha),
        )
        for change in ablation_changes(lines)
        if change.ppl is not None
    ]


def _settings(lines: Sequence[Line]) -> list[str]:
    """What settings change within either training of the model; one is credited, several are not."""
    return [
        setting_text(change)
        for change in changes_within_arms(lines)
        if change.other.arm in (JOINT, TWO_PHASE) and change.ppl is not None
    ]


def setting_text(change: LineChange) -> str:
    """What changes from a line to another one at equal tokens, and whether a setting can be credited."""
    text = _("{line} against {other}: PPL {ppl} at {documents} documents; exponent {alpha}. {cause}")
    return text.format(
        line=plain(change.other.label),
        other=plain(change.reference.label),
        ppl=ppl_text(change.percent),
        documents=numbers.count(change.num_samples),
        alpha=alpha_text(change.alpha),
        cause=_cause_text(change),
    )


def _cause_text(change: LineChange) -> str:
    settings = plain(", ".join(map(str, change.settings)))
    if not change.settings:
        return _("No setting differs.")
    if len(change.settings) == 1:
        return _("Only {settings} differs.").format(settings=settings)
    text = _("{count} settings differ ({settings}): none of them can be credited.")
    return text.format(count=len(change.settings), settings=settings)


def _ranks(lines: Sequence[Line]) -> list[str]:
    """Effective rank of trained contexts beside untrained ones of the same shape."""
    changes = [
        (change, change.field("val_er"))
        for change in ablation_changes(lines)
        if change.reference.arm == "random-context"
    ]
    return [
        _("Effective rank of {line} against untrained contexts: {change} at {documents} documents.").format(
            line=plain(change.other.label),
            change=points_text(rank),
            documents=numbers.count(change.num_samples),
        )
        for change, rank in changes
        if rank is not None
    ]


def _convergence(lines: Sequence[Line]) -> list[str]:
    """Where phase 1 ended: by itself, or at its cap (then its iterations are a lower bound)."""
    found = []
    for line in lines:
        runs = [run for run in line.runs if run is not None and run.phase1_converged is not None]
        iterations = [run.point.phase1_iter for run in runs if run.point.phase1_iter is not None]
        if not iterations:
            continue
        censored = sum(run.phase1_converged is False for run in runs)
        if censored:
            text = _("Phase 1 of {line} ended at its cap in {censored} of {runs} runs: lower bounds only.")
        elif len(runs) == 1:
            text = _("Phase 1 of {line} converged in its one run, in {iterations} iterations.")
        else:
            text = _("Phase 1 of {line} converged in all {runs} runs, in {iterations} iterations.")
        found.append(
            text.format(
                line=plain(line.label),
                censored=censored,
                runs=len(runs),
                iterations=_span(min(iterations), max(iterations)),
            )
        )
    return found


def _span(low: int, high: int) -> str:
    return str(low) if low == high else numbers.between(str(low), str(high))


def _flags(sweep: Sweep, lines: Sequence[Line]) -> list[str]:
    """Points that a reader must know of before he believes a fit."""
    ended = [point for line in lines for point in line.points if capped(point)]
    failed, diverged = (
        [point for point in sweep.points if point.status == status] for status in ("failed", "diverged")
    )
    counted = (
        (_("ended training at their cap"), len(ended)),
        (_("failed"), len(failed)),
        (_("diverged"), len(diverged)),
        (_("have no record yet"), len(sweep.missing())),
        (_("are left out of the fits"), sum(len(line.fit.excluded) for line in lines)),
    )
    parts = [_("{count} {what}").format(count=number, what=what) for what, number in counted if number]
    if not parts:
        return []
    total = len(sweep.plan.points)
    return [_("Of {total} runs {parts}.").format(total=total, parts=listed(parts))]
