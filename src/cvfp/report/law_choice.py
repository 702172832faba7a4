"""Which law a line follows: the forms that fit it, whether it is curved, and what hangs on a single size."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _, sentences
from cvfp.report.law_texts import flip_texts
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.curvature import LocalExponent, bend, local_exponents
from cvfp.scaling.estimate import Estimate
from cvfp.scaling.forecast import forecast
from cvfp.scaling.form_choice import ComparedForm
from cvfp.scaling.forms import FORMULAS

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
    rows = [_form_row(line, one) for line in lines for one in line.forms]
    return table(header, rows, left=4) if rows else ""


def bend_table(lines: Sequence[Line]) -> str:
    """One row per line with a law: the coefficient of (ln D)² in ln PPL, and what its interval says."""
    header = (_("line"), _("curvature"), _("95% interval"), _("interval over"), _("verdict"))
    return table(header, [_bend_row(line) for line in lines if line.law is not None])


def local_table(lines: Sequence[Line]) -> str:
    """One row per line and two neighbouring sizes."""
    header = (_("line"), _("documents"), _("α"), _("95% interval of α"))
    fitted = [line for line in lines if line.law is not None]
    return table(header, [_local_row(line, one) for line in fitted for one in local_exponents(line.data)])


def fragile_texts(lines: Sequence[Line]) -> list[str]:
    """Verdicts of the two tables that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for line in lines for text in flip_texts(line.label, line.flips)]


def law_conclusions(lines: Sequence[Line]) -> list[str]:
    """Lines that one power law of PPL does not describe: it is curved, or another form is preferred."""
    found = []
    for line in lines:
        texts = [text for text in (_curved_text(line), _preferred_text(line)) if text]
        if texts:
            weak = _("Without some single size this is not so: see the form of the law.")
            texts += [weak] if any(flip.given in AGAINST for flip in line.flips) else []
            found.append(sentences(*texts, _("No prediction is taken from its power law.")))
    return found


def doubted(line: Line) -> bool:
    """Whether `law_conclusions` has anything against the power law of a line."""
    return bool(_curved_text(line) or _preferred_text(line))


def _curved_text(line: Line) -> str:
    found = line.curvature
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
    errors = {one.fit.form: one for one in line.forms}
    best = next((one for one in line.forms if one.verdict == "preferred"), None)
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
    (found,) = forecast(one.fit.law, line.data.tokens.max(), [line.forecasts[-1].tokens])
    return f"{numbers.ppl(found.ppl)} ({numbers.ppl_interval(found.low, found.high)})"


def _bend_row(line: Line) -> list[str]:
    found = line.curvature
    verdict = bend(found)
    if verdict == "curved":
        verdict = N_("curved: flattens") if found.value > 0 else N_("curved: steepens")
    value, interval, kind = _cells(found)
    return [plain(line.label), value, interval, kind, _(verdict)]


def _local_row(line: Line, one: LocalExponent) -> list[str]:
    value, interval, _kind = _cells(one.exponent)
    return [plain(line.label), numbers.count_range(one.size_range), value, interval]


def _cells(found: Estimate | None) -> tuple[str, str, str]:
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
