"""The first screen: who is best and by how much, how sure, what to run next; two figures and the ranking."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import IntervalKind
from cvfp.report import numbers
from cvfp.report.blocks import Block, Picture, Section, present
from cvfp.report.changes import LineChange
from cvfp.report.figures.answer import ppl_figure, ratio_figure
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, bold, bullets, plain, quote, table
from cvfp.report.next_run import next_run
from cvfp.report.sections.ablations import ABLATIONS, question_texts
from cvfp.report.sections.scaling import law_answer
from cvfp.report.standings import MIXTURE, Headline, Standing, mixes, opponent, rivals
from cvfp.report.verdicts import change_cell, data_ratio_text, interval_text, marks_text
from cvfp.report.view import View
from cvfp.scaling.points import Change


def section(view: View) -> Section | None:
    """None where no run has a score."""
    if view.reference is None:
        return None
    blocks: list[Block] = [quote(*answer_texts(view))]
    pictures = tuple(_pictures(view))
    if pictures:
        blocks.append(pictures)
    if view.top is not None:
        blocks += [ranking_table(view), ranking_note(view)]
    blocks.append(bullets(questions(view)))
    return Section(_("Answer"), present(blocks))


def answer_texts(view: View) -> list[str]:
    """The answer, how sure it is, and what to run next: a paragraph each, as Markdown."""
    how_sure, following = _how_sure(view), next_run(view)
    return [
        _answer(view),
        sentences(bold(_("How sure:")), how_sure) if how_sure else "",
        sentences(bold(_("Next:")), following.text) if following else "",
    ]


# --- Who is best, and by how much.


def _answer(view: View) -> str:
    top, ranked = view.top, rivals(view.top)
    if top is None or not ranked:
        return _("There is no size yet at which every model has a result: nothing can be ranked.")
    best = ranked[0]
    where = _("{documents} training documents ({tokens} tokens)").format(
        documents=numbers.count(top.num_samples), tokens=numbers.count(best.mean("train_tokens"))
    )
    text = _("{model} has the lowest test PPL at {where}: {ppl}.")
    mixed = _mixed(top, best)
    if mixed:
        text = _("Of single models {model} has the lowest test PPL at {where}: {ppl}.")
    elif len(ranked) == 1:
        text = _("{model} has test PPL {ppl} at {where}.")
    found = [
        bold(text.format(model=plain(best.line.label), where=where, ppl=numbers.ppl(best.ppl))),
        *_closest(view, top, best, ranked),
        *mixed,
        *_unequal(top, ranked),
    ]
    return sentences(*found)


def _closest(view: View, top: Headline, best: Standing, ranked: Sequence[Standing]) -> list[str]:
    """The best model against the one that matters beside it: the reference, or its closest rival."""
    other = opponent(ranked, view.reference)
    if other is None:
        return []
    change = LineChange(best.line, other.line)
    ppl = change.ppl_at(top.num_samples)
    if ppl is None:
        text = _("{model} was trained on other tokens, or scored on other texts: not compared.")
        return [text.format(model=plain(other.line.label))]
    name = plain(other.line.label)
    if other.line is view.reference:
        text = _("{model}, the model in question, is at {change} against it.")
    else:
        text = _("The closest rival, {model}, is at {change} against it.")
    found = [text.format(model=name, change=interval_text(ppl))]
    if ppl.distinguishable is False:
        found.append(_("That is no clear difference."))
    return [*found, *_data(change, top), *_trend(change.alpha)]


def _data(change: LineChange, top: Headline) -> list[str]:
    """The data that the best model needs for the PPL of the other at the common size, if measured."""
    found = change.data_ratios.get(top.num_samples)
    if found is None or found.ratio is None:
        return []
    text = _("{model} reaches the PPL that {other} has there with {ratio}.")
    names = {"model": plain(change.reference.label), "other": plain(change.other.label)}
    return [text.format(**names, ratio=data_ratio_text(found))]


def _trend(alpha: Change | None) -> list[str]:
    """Whether the ratio of the two grows with data: by the exponent of their ratio; one seed does not say."""
    if alpha is None or alpha.one_draw:
        return []
    if not alpha.distinguishable:
        return [_("With more data the gap neither clearly grows nor shrinks.")]
    return [_("The gap grows with data.") if alpha.value > 0 else _("The gap shrinks with data.")]


def _mixed(top: Headline, best: Standing) -> list[str]:
    """A mixture that the best model is part of, where it is better still."""
    for one in top.standings:
        if mixes(one.line, best.line.arm):
            ppl = LineChange(best.line, one.line).ppl_at(top.num_samples)
            if ppl is not None and ppl.value < 0:
                text = _("The mixture of {model} with {others} is lower still, at {change} against it.")
                others = [plain(arm) for arm in one.line.config.mixture.arms if arm != best.line.arm]
                names = {"model": plain(best.line.label), "others": listed(others)}
                return [text.format(**names, change=interval_text(ppl))]
    return []


def _unequal(top: Headline, ranked: Sequence[Standing]) -> list[str]:
    """Models on their own that are not ranked with the others, for their token table knows other data."""
    apart = [one for one in top.standings if one.line.arm != MIXTURE and one not in ranked]
    if not apart:
        return []
    text = _("Not on equal terms, with a token table that was trained on other data: {models}.")
    shown = [f"{plain(one.line.label)} {numbers.ppl(one.ppl)}" for one in apart]
    return [text.format(models=listed(shown))]


# --- How sure that is.


def _how_sure(view: View) -> str:
    ranked = rivals(view.top)
    other = opponent(ranked, view.reference)
    if view.top is None or not ranked:  # the answer says why nothing is ranked
        return ""
    if other is None:
        return _("There is no other model to compare.")
    change = LineChange(ranked[0].line, other.line)
    if not any(a.num_samples == view.top.num_samples for a, _b in change.pairs):
        return _("There is no other model to compare.")
    if len(view.top.draws) == 1:
        badge = bold(_("1 seed: indicative only."))
        return sentences(badge, _("Another seed may turn the order; an interval over seeds takes two more."))
    pairs = [(a, b) for a, b in change.pairs if a.num_samples == view.top.num_samples]
    ahead = sum(a.val_ppl < b.val_ppl for a, b in pairs)
    texts = [
        _("{model} is lower with {ahead} of {seeds} seeds there.").format(
            model=plain(ranked[0].line.label), ahead=ahead, seeds=len(pairs)
        )
    ]
    sizes = sorted({a.num_samples for a, _b in change.pairs})
    found = {size: change.ppl_at(size) for size in sizes}
    clear = [size for size, one in found.items() if one is not None and one.distinguishable]
    text = _(
        "The 95% interval of the difference to {other}, over {what}, excludes 0 at {clear} of {sizes} sizes "
        "({range} documents)."
    )
    kind: IntervalKind = next(one.kind for one in found.values() if one is not None)
    texts.append(
        text.format(
            other=plain(other.line.label),
            what=numbers.interval_over(kind),
            clear=len(clear),
            sizes=len(sizes),
            range=numbers.count_range((sizes[0], sizes[-1])) if len(sizes) > 1 else numbers.count(sizes[0]),
        )
    )
    return sentences(*texts)


# --- The figures.


def _pictures(view: View) -> list[Picture]:
    assert view.reference is not None
    found = []
    figure = ppl_figure(view.lines)
    if figure is not None:
        text = _("Test PPL of every model against training tokens, both axes logarithmic")
        found.append(Picture("ppl.png", text, figure))
    figure = ratio_figure(view.reference, view.changes, view.lines)
    if figure is not None:
        text = _("PPL of every model against {model} in percent, size by size, with 95% intervals")
        found.append(Picture("ratio.png", text.format(model=plain(view.reference.label)), figure))
    return found


# --- The ranking.


def ranking_table(view: View) -> str:
    """A row per model at the common size, best first; percentages are against the reference."""
    top, reference = view.top, view.reference
    assert top is not None and reference is not None
    against = {change.other.label: change.ppl_at(top.num_samples) for change in view.changes}

    def relative(one: Standing) -> str:
        if one.line is reference:
            return _("reference")
        return change_cell(against.get(one.line.label))

    columns = [
        Column[Standing](_("model"), _name, words=True),
        Column[Standing](_("test PPL"), lambda one: bold(numbers.ppl(one.ppl))),
        Column[Standing](_("against {model}").format(model=plain(reference.label)), relative),
        Column[Standing](_("bits per byte"), lambda one: numbers.bits(one.mean("bits_per_byte"))),
        Column[Standing](_("accuracy"), lambda one: numbers.share(one.mean("val_acc"))),
        Column[Standing](_("parameters"), lambda one: numbers.short_count(one.mean("total_params"))),
        Column[Standing](_("seconds"), lambda one: numbers.seconds(one.mean("wall_seconds"))),
    ]
    return table(columns, top.standings)


def ranking_note(view: View) -> str:
    """What the ranking is of, and its signs."""
    top = view.top
    assert top is not None and view.reference is not None
    seeds = ", ".join(map(str, top.draws))
    texts = [
        _(
            "At {documents} documents, the largest size that all of them have; means over seeds {seeds}."
        ).format(documents=numbers.count(top.num_samples), seeds=seeds)
        if len(top.draws) > 1
        else _("At {documents} documents, the largest size that all of them have; seed {seeds}.").format(
            documents=numbers.count(top.num_samples), seeds=seeds
        ),
        _("A percentage is PPL(model) / PPL(reference) − 1, paired, with its 95% interval; {marks}.").format(
            marks=marks_text()
        ),
    ]
    if any(one.line.pretrained for one in top.standings):
        texts.append(_("† uses a token table that was trained on other data."))
    if any(one.capped for one in top.standings):
        texts.append(_("‡ training stopped at its cap, perhaps before the minimum of its dev loss."))
    if not_tuned := [plain(one.line.label) for one in top.standings if _untuned(view, one.line)]:
        texts.append(_("Not tuned, unlike the others: {models}.").format(models=listed(not_tuned)))
    return sentences(*texts)


def _untuned(view: View, line: Line) -> bool:
    """Whether its settings were not tuned although those of others were."""
    known = [one for one in view.lines if one.arm != MIXTURE]
    return (
        line.arm not in (MIXTURE, *ABLATIONS)
        and line.tuned_trials is None
        and any(one.tuned_trials for one in known)
    )


def _name(one: Standing) -> str:
    marks = ("†" if one.line.pretrained else "") + ("‡" if one.capped else "")
    return plain(one.line.label) + marks


# --- Three questions.


def questions(view: View) -> list[str]:
    """Does the context help, does phase 1 help, does the law hold: as far as the sweep can tell."""
    return [*question_texts(view), *law_answer(view)]
