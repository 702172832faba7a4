"""How perplexity falls with data: every size against the reference, the laws, per token and per byte."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Picture, Section, present
from cvfp.report.changes import LineChange
from cvfp.report.figures.scaling import scaling_figure
from cvfp.report.interactive.charts import scaling_chart
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line, Rejection, tuned_text
from cvfp.report.markdown import Column, bold, plain, table
from cvfp.report.sections.settings import seeds_vary
from cvfp.report.verdicts import alpha_note, change_cell, data_ratio_cell, marks_text
from cvfp.report.view import View
from cvfp.scaling.draws import Law, fit_draws
from cvfp.scaling.points import cells, mean_over


def section(view: View) -> Section | None:
    """None where no run has a score."""
    figure = scaling_figure(view.lines)
    if figure is None:
        return None
    kinds = {line.summary.interval_kind for line in view.lines}
    text = _(
        "Test PPL against training tokens with the fitted power laws; below, exponent, factor and scores of "
        "every model"
    )
    byte_laws, fitted = byte_law_table(view.lines), any(line.law is not None for line in view.lines)
    return Section(
        _("Scaling"),
        present(
            [
                size_table(view),
                _size_note(view),
                data_table(view),
                _data_note(view),
                Picture("context_dim_scaling.png", text, figure, scaling_chart(view.lines)),
                sentences(
                    _("Marks that a fit uses are filled, others are hollow."),
                    _(
                        "A curve is a fitted power law; where there is a forecast, that goes on beyond the "
                        "data, dotted, with the 95% interval of the law."
                    ),
                )
                if fitted
                else "",
                law_table(view.lines),
                sentences(
                    _("PPL = A · tokens^α, by least squares of ln PPL on ln tokens."),
                    alpha_note(kinds, seeds_vary(view.sweep.plan)),
                    _("R² near 1 is no evidence of a power law."),
                    *short_seed_texts(view.lines),
                    _(
                        "Where data are read several times the law is of distinct tokens, and a floor is "
                        "that of repeated data: fresh text may go below it."
                    )
                    if any(line.passes for line in view.lines)
                    else "",
                )
                if fitted
                else "",
                Fold(_("The same laws per byte of text, which compare across tokenizers"), (byte_laws,)),
            ]
        ),
    )


# --- Every size against the reference.


def size_table(view: View) -> str:
    """The reference's PPL at each of its sizes, and every other model against it on the same tokens."""
    reference = view.reference
    if reference is None or not view.changes:
        return ""
    own = {
        size: mean_over([cell for cell in cells(reference.scored) if cell.num_samples == size], "val_ppl")
        for size in view.sizes
    }

    def cell(change: LineChange | None, size: int) -> str:
        return bold(numbers.ppl(own[size])) if change is None else change_cell(change.ppl_at(size))

    columns = [
        Column[LineChange | None](
            _("model / documents"),
            lambda change: bold(plain(reference.label)) if change is None else plain(change.other.label),
            words=True,
        ),
        *(
            Column[LineChange | None](
                numbers.count(size),
                lambda change, size=size: cell(change, size),
            )
            for size in view.sizes
        ),
    ]
    return table(columns, [None, *view.changes])


def _size_note(view: View) -> str:
    if view.reference is None or not view.changes:
        return ""
    return sentences(
        (
            _("First row: the test PPL of {model}, the geometric mean over seeds.")
            if view.seeds > 1
            else _("First row: the test PPL of {model}.")
        ).format(model=plain(view.reference.label)),
        _(
            "Others: PPL(model) / PPL(reference) − 1, paired on the same tokens, with its 95% interval; "
            "{marks}. The intervals are not corrected for their number."
        ).format(marks=marks_text()),
    )


# --- The data that the reference needs for the PPL of another model.


def data_table(view: View) -> str:
    """With how many times the data of every other model the reference has its PPL, size by size."""
    known = [change for change in view.changes if change.data_ratios]
    if view.reference is None or len(view.sizes) < 2:
        return ""
    sizes = sorted({size for change in known for size in change.data_ratios})
    columns = [
        Column[LineChange](
            _("data for the PPL of / documents"), lambda change: plain(change.other.label), words=True
        ),
        *(
            Column[LineChange](
                numbers.count(size), lambda change, size=size: data_ratio_cell(change.data_ratios.get(size))
            )
            for size in sizes
        ),
    ]
    return table(columns, known)


def _data_note(view: View) -> str:
    if not data_table(view):
        return ""
    return sentences(
        _(
            "The data that {model} needs for the test PPL of each other model, as a multiple of what that "
            "model has it with: below 1 {model} needs less."
        ).format(model=plain(view.reference.label if view.reference else "")),
        _(
            "Read between neighbouring sizes, per seed, with the 95% interval over seeds; beyond its own "
            "sizes (<, >) nothing is said; – where seeds differ in that."
        ),
    )


# --- The laws.


REASONS: dict[Rejection, str] = {
    "sizes": N_("two sizes fit any law"),
    "form": N_("another form of the law predicts left-out sizes better"),
    "fit": N_("it misses sizes by more than their error"),
    "curvature": N_("it is curved"),
    "windows": N_("its exponent changes from window to window"),
    "largest size": N_("its law of the smaller sizes misses the largest"),
}


def law_table(lines: Sequence[Line]) -> str:
    """A row per curve: its shape, its power law, whether that holds, its best run."""
    columns = [
        Column[Line](_("model"), lambda line: plain(line.label), words=True),
        Column[Line](_("settings"), tuned_text, words=True),
        Column[Line](_("width"), lambda line: numbers.count(line.summary.context_dim)),
        Column[Line](
            _("context-block params"), lambda line: numbers.count(line.summary.context_block_params)
        ),
        Column[Line](_("α"), lambda line: numbers.exponent(line.summary.alpha)),
        Column[Line](_("95% interval of α"), lambda line: numbers.exponent_interval(line.summary.alpha_ci95)),
        Column[Line](_("A"), lambda line: numbers.coefficient(line.summary.A)),
        Column[Line](_("R²"), lambda line: numbers.r_squared(line.summary.r_squared)),
        Column[Line](_("runs in the fit"), _fitted),
        Column[Line](_("times its data are read"), passes_text),
        Column[Line](_("does it hold?"), held_text, words=True),
        Column[Line](_("best test PPL"), lambda line: numbers.ppl(line.summary.best_ppl)),
    ]
    return table(columns, lines)


def passes_text(line: Line) -> str:
    """How often the runs of a fit read their data; a dash where that is not known, or once."""
    return numbers.ABSENT if line.passes is None else numbers.times_read(line.passes)


def short_seed_texts(lines: Sequence[Line]) -> list[str]:
    """Which curves have seeds that take no part in their laws."""
    found = [
        _("{model} (seeds {seeds})").format(model=plain(line.label), seeds=listed(map(str, short)))
        for line in lines
        if line.law is not None and (short := line.analysis.points.short_draws)
    ]
    text = _("Seeds with less than half of a curve's sizes count in its forecast alone: {models}.")
    return [text.format(models=listed(found))] if found else []


def _fitted(line: Line) -> str:
    return _("{used} of {all}").format(used=line.summary.fitted_points, all=len(line.points))


def held_text(line: Line) -> str:
    """What speaks against the power law of a curve; a dash where it has none."""
    if line.law is None:
        return numbers.ABSENT
    if not line.rejections:
        return _("nothing against it")
    if "sizes" in line.rejections:
        return _("not tested: {reason}").format(reason=_(REASONS["sizes"]))
    return _("no: {reasons}").format(reasons=_("; ").join(_(REASONS[one]) for one in line.rejections))


def law_answer(view: View) -> list[str]:
    """The question of the first screen: whether one power law describes a curve."""
    known = [line for line in view.lines if line.law is not None and "sizes" not in line.rejections]
    if not known:
        return []
    holds = [plain(line.label) for line in known if not line.rejections]
    rejected = [plain(line.label) for line in known if line.rejections]
    parts = [_("**Does one power law hold?**")]
    if holds:
        parts.append(_("Nothing speaks against it for {models}.").format(models=listed(holds)))
    if len(rejected) == len(known) > 1:
        parts.append(_("For none of the {count} models.").format(count=len(known)))
    elif rejected:
        parts.append(_("Not for {models}.").format(models=listed(rejected)))
    silent = [plain(line.label) for line in known if not line.extrapolates]
    if len(silent) == len(known):
        parts.append(_("No forecast is made."))
    elif silent:
        parts.append(_("No forecast is made of {models}.").format(models=listed(silent)))
    return [sentences(*parts)]


# --- The law of the loss per byte of text against bytes: what compares across tokenizers.


def byte_law(line: Line) -> Law | None:
    """exp(nats per byte) = A * bytes^alpha over the runs of the line's fit; None where bytes are not known.

    By least squares of nats per byte on ln bytes, a law per draw, as the law of PPL.
    """
    if not line.fitted or not all(p.train_bytes and p.bits_per_byte is not None for p in line.fitted):
        return None
    known = cells(line.fitted)
    ppl = [math.exp(math.log(2) * cell.known("bits_per_byte")) for cell in known]
    return fit_draws([cell.known("train_bytes") for cell in known], ppl, [cell.draw for cell in known])


_Laws = tuple[Line, tuple[Law, Law]]


def byte_law_table(lines: Sequence[Line]) -> str:
    """The two laws of every curve side by side; empty where none has bytes."""
    known: list[_Laws] = [
        (line, (line.law, law))
        for line in lines
        if line.law is not None and (law := byte_law(line)) is not None
    ]
    columns = [
        Column[_Laws](_("model"), lambda row: plain(row[0].label), words=True),
        *(
            column
            for index, name in ((0, _("α, nats per token")), (1, _("α, nats per byte")))
            for column in (
                Column[_Laws](name, lambda row, index=index: numbers.exponent(row[1][index].alpha)),
                Column[_Laws](
                    _("95% interval"),
                    lambda row, index=index: numbers.exponent_interval(row[1][index].alpha_ci95),
                ),
                Column[_Laws](_("R²"), lambda row, index=index: numbers.r_squared(row[1][index].r_squared)),
            )
        ),
    ]
    return table(columns, known)
