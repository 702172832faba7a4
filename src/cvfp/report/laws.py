"""Which law a line follows: the forms that fit it, whether it is curved, and the exponents of its windows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvfp.records.results import WindowRecord
from cvfp.records.schema import N_
from cvfp.report import numbers
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.report.verdicts import flip_texts
from cvfp.scaling.draws import Estimate, Law, fit_draws
from cvfp.scaling.forecast import forecast
from cvfp.scaling.forms import FORMULAS, ComparedForm
from cvfp.scaling.local_exponent import LocalExponent, bend
from cvfp.scaling.points import Change, cells

# --- Which law a line follows: the forms that fit it, whether it is curved, and what hangs on a single size.


FORMS = {name: plain(formula) for name, formula in FORMULAS.items()}
STATUSES = {
    "converged": N_("determined"),
    "at_bound": N_("at a bound"),
    "not_identifiable": N_("not determined"),
}
FORM_VERDICTS = (N_("preferred"), N_("not distinguishable"), N_("worse"), N_("not compared"))
AGAINST = ("curved", "loss_power", "loss_floor")
"""Verdicts on a line that speak against its power law."""
BENDS = (N_("straight within error"), N_("not testable"))
"""Words of the analysis, for the catalogues."""


def form_table(lines: Sequence[Line]) -> str:
    """One row per line and form of the law; empty when no line has a law."""
    header = (
        _("line"),
        _("form"),
        _("status"),
        _("verdict"),
        _("left-out error"),
        _("exponent (95% interval)"),
        _("floor E (95% interval)"),
        _("farthest predicted PPL (95% interval)"),
    )
    rows = [_form_row(line, one) for line in _fitted(lines) for one in line.analysis.forms]
    return table(header, rows, left=4) if rows else ""


def bend_table(lines: Sequence[Line]) -> str:
    """One row per line with a law: the coefficient of (ln D)² in ln PPL, and what its interval says."""
    header = (_("line"), _("curvature"), _("95% interval"), _("interval over"), _("verdict"))
    return table(header, [_bend_row(line) for line in _fitted(lines)])


def local_table(lines: Sequence[Line]) -> str:
    """One row per line and two neighbouring sizes."""
    header = (_("line"), _("documents"), _("α"), _("95% interval of α"))
    rows = [_local_row(line, one) for line in _fitted(lines) for one in line.analysis.local_exponents]
    return table(header, rows)


def fragile_texts(lines: Sequence[Line]) -> list[str]:
    """Verdicts of the two tables that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for line in _fitted(lines) for text in flip_texts(line.label, line.analysis.flips)]


def law_conclusions(lines: Sequence[Line]) -> list[str]:
    """Lines that one power law of PPL does not describe: it is curved, or another form is preferred."""
    found = []
    for line in _fitted(lines):
        texts = [text for text in (_curved_text(line), _preferred_text(line)) if text]
        if texts:
            weak = _("Without some single size this is not so: see the form of the law.")
            texts += [weak] if any(flip.given in AGAINST for flip in line.analysis.flips) else []
            found.append(sentences(*texts, _("No prediction is taken from its power law.")))
    return found


def doubted(line: Line) -> bool:
    """Whether `law_conclusions` has anything against the power law of a line."""
    return line.law is not None and bool(_curved_text(line) or _preferred_text(line))


def _fitted(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.law is not None]


def _curved_text(line: Line) -> str:
    found = line.analysis.curvature
    if bend(found) != "curved":
        return ""
    text = _("The power law of {line} is curved ({coefficient}, {kind} {interval}): with more data {how}.")
    return text.format(
        line=plain(line.label),
        coefficient=numbers.signed_exponent(found.value),
        kind=numbers.interval_name(found.kind),
        interval=numbers.signed_exponent_interval(found.interval),
        how=_("it flattens") if found.value > 0 else _("it steepens"),
    )


def _preferred_text(line: Line) -> str:
    errors = {one.fit.form: one for one in line.analysis.forms}
    best = next((one for one in line.analysis.forms if one.verdict == "preferred"), None)
    if best is None or best.fit.form == "ppl_power":
        return ""
    text = _("{line} follows {form} better: {error} nats of error at sizes left out, the power law {other}.")
    return text.format(
        line=plain(line.label),
        form=FORMS[best.fit.form],
        error=numbers.decimals(best.loo_rms, 4),
        other=numbers.decimals(errors["ppl_power"].loo_rms, 4),
    )


def _form_row(line: Line, one: ComparedForm) -> list[str]:
    fit = one.fit
    values = fit.parameters if fit.extrapolates else {}
    name = "alpha" if fit.form == "ppl_power" else "beta"
    return [
        plain(line.label),
        FORMS[fit.form],
        _(STATUSES[fit.status]),
        _(one.verdict),
        numbers.decimals(one.loo_rms, 4),
        _with_interval(values.get(name), fit.intervals[name]),
        _with_interval(values.get("E"), fit.intervals.get("E")),
        _farthest(line, one),
    ]


def _farthest(line: Line, one: ComparedForm) -> str:
    if not one.fit.extrapolates:
        return numbers.ABSENT
    (found,) = forecast(one.fit.law, line.analysis.points.tokens.max(), [line.forecasts[-1].tokens])
    return f"{numbers.ppl(found.ppl)} ({numbers.ppl_interval(found.low, found.high)})"


def _bend_row(line: Line) -> list[str]:
    found = line.analysis.curvature
    verdict = bend(found)
    if verdict == "curved":
        verdict = N_("curved: flattens") if found.value > 0 else N_("curved: steepens")
    value, interval, kind = _estimate_cells(found)
    return [plain(line.label), value, interval, kind, _(verdict)]


def _local_row(line: Line, one: LocalExponent) -> list[str]:
    value, interval, _kind = _estimate_cells(one.exponent)
    return [plain(line.label), numbers.count_range(one.size_range), value, interval]


def _estimate_cells(found: Estimate | None) -> tuple[str, str, str]:
    """Value, interval, and what that is over."""
    if found is None:
        return (numbers.ABSENT,) * 3
    kind = None if found.interval is None else found.kind
    interval = numbers.signed_exponent_interval(found.interval)
    return numbers.signed_exponent(found.value), interval, numbers.interval_over(kind)


def _with_interval(value: float | None, interval: tuple[float, float] | None) -> str:
    if interval is None:
        return numbers.exponent(value)
    return f"{numbers.exponent(value)} ({numbers.exponent_interval(interval)})"


# --- Sliding windows: the exponent of every few consecutive sizes, and how it changes.


TRENDS = (N_("degrading"), N_("improving"), N_("stable"))
"""The source report's words for a change of the exponent, for the catalogues."""


def window_table(lines: Sequence[Line]) -> str:
    """One row per window of every line that has windows; empty when none has."""
    header = (
        _("line"),
        _("documents"),
        _("training tokens"),
        _("α"),
        _("95% interval of α"),
        _("A"),
        _("R²"),
    )
    rows = [row for line in lines for row in _window_rows(line)]
    return table(header, rows) if rows else ""


def trend_table(lines: Sequence[Line]) -> str:
    """Change of the exponent from the first to the last window, a row per line that has windows."""
    header = (
        _("line"),
        _("first α"),
        _("last α"),
        _("change"),
        _("95% interval"),
        _("excludes 0"),
        _("percent"),
        _("trend"),
    )
    return table(header, [_trend_row(line) for line in lines if line.progression is not None])


def _window_rows(line: Line) -> list[list[str]]:
    if line.progression is None:
        return []
    return [
        [
            plain(line.label),
            _sizes(window),
            numbers.count_range(window.token_range),
            numbers.exponent(window.alpha),
            numbers.exponent_interval(window.alpha_ci95),
            numbers.coefficient(window.A),
            numbers.r_squared(window.r_squared),
        ]
        for window in line.progression.windows
    ]


def _sizes(window: WindowRecord) -> str:
    shown = numbers.count_range(window.sample_range)
    return f"{shown}, {numbers.without(window.missing_sizes)}" if window.missing_sizes else shown


def _trend_row(line: Line) -> list[str]:
    found = line.progression
    interval = found.alpha_change_ci95
    return [
        plain(line.label),
        numbers.exponent(found.windows[0].alpha),
        numbers.exponent(found.windows[-1].alpha),
        numbers.signed_exponent(found.alpha_change),
        numbers.signed_exponent_interval(interval),
        numbers.ABSENT if interval is None else _yes_or_no(not interval[0] <= 0 <= interval[1]),
        numbers.signed_percent(found.alpha_change_percent),
        _(found.trend),
    ]


def _yes_or_no(value: bool) -> str:
    return _("yes") if value else _("no")


def window_change(line: Line) -> Change:
    """Change of the exponent of a line that has windows, from the first to the last."""
    found = line.progression
    kind = found.windows[0].interval_kind or "line"
    return Change(found.alpha_change, found.alpha_change_ci95, len(line.fitted), kind)


def curved(line: Line) -> bool:
    """Whether the exponent of its windows changes beyond its interval across draws."""
    return line.progression is not None and bool(window_change(line).distinguishable)


# --- The law of the loss per byte of text against bytes: what compares across tokenizers.


def byte_law(line: Line) -> Law | None:
    """exp(nats per byte) = A * bytes^alpha over the points of the line's fit; None where bytes are not known.

    By least squares of nats per byte on ln bytes, a law per draw, as the law of PPL.
    """
    if not line.fitted or not all(p.train_bytes and p.bits_per_byte is not None for p in line.fitted):
        return None
    known = cells(line.fitted)
    ppl = [math.exp(math.log(2) * cell.mean("bits_per_byte")) for cell in known]
    return fit_draws([cell.mean("train_bytes") for cell in known], ppl, [cell.draw for cell in known])


def byte_law_table(lines: Sequence[Line]) -> str:
    """The two laws of every line side by side; empty where no line has bytes."""
    header = (
        _("line"),
        _("α, nats per token"),
        _("95% interval"),
        _("R²"),
        _("α, nats per byte"),
        _("95% interval"),
        _("R²"),
    )
    laws = [(line, law) for line in lines if (law := byte_law(line)) is not None]
    rows = [[plain(line.label), *_law_cells(line.law), *_law_cells(law)] for line, law in laws]
    return table(header, rows) if rows else ""


def _law_cells(law: Law) -> list[str]:
    return [
        numbers.exponent(law.alpha),
        numbers.exponent_interval(law.alpha_ci95),
        numbers.r_squared(law.r_squared),
    ]
