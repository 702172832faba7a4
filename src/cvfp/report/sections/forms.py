"""Which law a curve follows: the forms that fit it, whether it bends, and the exponents of its windows."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import ProgressionRecord, WindowRecord
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Block, Picture, present
from cvfp.report.figures.progression import progression_figure
from cvfp.report.interactive.charts import progression_chart
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line, Rejection, window_change
from cvfp.report.markdown import Column, bullets, plain, table
from cvfp.report.verdicts import alpha_text, flip_texts
from cvfp.report.view import View
from cvfp.scaling.draws import Estimate
from cvfp.scaling.forms import FORMULAS, ComparedForm
from cvfp.scaling.local_exponent import LocalExponent, bend

# --- The forms of the law, and whether it bends.


FORMS: dict[str, str] = {name: plain(formula) for name, formula in FORMULAS.items()}
STATUSES = {
    "converged": N_("determined"),
    "at_bound": N_("at a bound"),
    "not_identifiable": N_("not determined"),
}
FORM_VERDICTS = (
    N_("preferred"),
    N_("does not fit"),
    N_("not distinguishable"),
    N_("worse"),
    N_("not compared"),
)
BENDS = (N_("straight within error"), N_("not testable"))
"""Words of the analysis, for the catalogues."""
AGAINST: dict[Rejection, tuple[str, ...]] = {"curvature": ("curved",), "form": ("loss_power", "loss_floor")}
"""Verdicts of `robustness.Flip` that speak against a power law of PPL."""


def form_blocks(lines: Sequence[Line]) -> tuple[Block, ...]:
    """What stands under the heading of the forms; nothing where no curve has a law."""
    forms = form_table(lines)
    if not forms:
        return ()
    fragile = fragile_texts(lines)
    stable = _(
        "No verdict on form or curvature changes when any one size is left out, or when PPL is rounded to "
        "what is printed."
    )
    return present(
        [
            forms,
            _(
                "D is training tokens, L = ln PPL in nats, and so are E and errors. A form is judged at each "
                "size in turn, predicted from the others; it is worse than the best only where that cannot "
                "well be chance, and not compared where it is not determined or the sizes are few. The best "
                "does not fit where it misses the sizes by more than their errors explain."
            ),
            bend_table(lines),
            _(
                "The curvature is the coefficient of (ln D)² in ln PPL: above 0 the curve flattens with more "
                "data. Between neighbouring sizes the exponent is:"
            ),
            local_table(lines),
            _("Verdicts that do not survive leaving out a size, or rounding PPL to what is printed:")
            if fragile
            else stable,
            bullets(fragile),
        ]
    )


_Form = tuple[Line, ComparedForm]


def form_table(lines: Sequence[Line]) -> str:
    """A row per curve and form of the law; empty when no curve has a law."""
    columns = [
        Column[_Form](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Form](_("form"), lambda row: FORMS[row[1].fit.form], words=True),
        Column[_Form](_("status"), lambda row: _(STATUSES[row[1].fit.status]), words=True),
        Column[_Form](_("verdict"), lambda row: _(row[1].verdict), words=True),
        Column[_Form](_("left-out error"), lambda row: numbers.decimals(row[1].loo_rms, 4)),
        Column[_Form](_("exponent (95% interval)"), lambda row: _parameter(row[1], _exponent_of(row[1]))),
        Column[_Form](_("floor E (95% interval)"), _floor),
    ]
    return table(columns, [(line, one) for line in _fitted(lines) for one in line.analysis.forms])


def bend_table(lines: Sequence[Line]) -> str:
    """A row per curve with a law: the coefficient of (ln D)² in ln PPL, and what its interval says."""
    columns = [
        Column[Line](_("model"), lambda line: plain(line.label), words=True),
        Column[Line](_("curvature"), lambda line: _value(line.analysis.curvature)),
        Column[Line](_("95% interval"), lambda line: _interval(line.analysis.curvature)),
        Column[Line](_("interval over"), lambda line: _over(line.analysis.curvature)),
        Column[Line](_("verdict"), _bend),
    ]
    return table(columns, _fitted(lines))


def local_table(lines: Sequence[Line]) -> str:
    """A row per curve and two neighbouring sizes."""
    columns = [
        Column[tuple[Line, LocalExponent]](_("model"), lambda row: plain(row[0].label), words=True),
        Column[tuple[Line, LocalExponent]](
            _("documents"), lambda row: numbers.count_range(row[1].size_range)
        ),
        Column[tuple[Line, LocalExponent]](_("α"), lambda row: _value(row[1].exponent)),
        Column[tuple[Line, LocalExponent]](_("95% interval of α"), lambda row: _interval(row[1].exponent)),
    ]
    return table(columns, [(line, one) for line in _fitted(lines) for one in line.analysis.local_exponents])


def fragile_texts(lines: Sequence[Line]) -> list[str]:
    """Verdicts of the two tables that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for line in _fitted(lines) for text in flip_texts(line.label, line.analysis.flips)]


def law_conclusions(lines: Sequence[Line]) -> list[str]:
    """Curves that one power law of PPL does not describe: it is curved, or another form is preferred."""
    found = []
    for line in _fitted(lines):
        texts = [
            text(line)
            for reason, text in (("curvature", _curved_text), ("form", _preferred_text))
            if reason in line.rejections
        ]
        if texts:
            against = {given for reason in line.rejections for given in AGAINST.get(reason, ())}
            weak = _("Without some single size this is not so: see the form of the law.")
            texts += [weak] if any(flip.given in against for flip in line.analysis.flips) else []
            found.append(sentences(*texts, _("No prediction is taken from its power law.")))
    return found


def _fitted(lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.law is not None]


def _curved_text(line: Line) -> str:
    found = line.analysis.curvature
    assert found is not None
    text = _("The power law of {model} is curved ({coefficient}, {kind} {interval}): with more data {how}.")
    return text.format(
        model=plain(line.label),
        coefficient=numbers.signed_exponent(found.value),
        kind=numbers.interval_name(found.kind),
        interval=numbers.signed_exponent_interval(found.interval),
        how=_("it flattens") if found.value > 0 else _("it steepens"),
    )


def _preferred_text(line: Line) -> str:
    errors = {one.fit.form: one for one in line.analysis.forms}
    best = next(one for one in line.analysis.forms if one.verdict == "preferred")
    text = _("{model} follows {form} better: {error} nats of error at sizes left out, the power law {other}.")
    return text.format(
        model=plain(line.label),
        form=FORMS[best.fit.form],
        error=numbers.decimals(best.loo_rms, 4),
        other=numbers.decimals(errors["ppl_power"].loo_rms, 4),
    )


def _exponent_of(one: ComparedForm) -> str:
    return "alpha" if one.fit.form == "ppl_power" else "beta"


def _parameter(one: ComparedForm, name: str) -> str:
    value = one.fit.parameters.get(name) if one.fit.extrapolates else None
    interval = one.fit.intervals.get(name)
    if interval is None:
        return numbers.exponent(value)
    return f"{numbers.exponent(value)} ({numbers.exponent_interval(interval)})"


def _floor(row: _Form) -> str:
    """The floor, of repeated data where it is one."""
    line, one = row
    shown = _parameter(one, "E")
    if shown == numbers.ABSENT or line.passes is None:
        return shown
    return _("{floor}, of repeated data").format(floor=shown)


def _bend(line: Line) -> str:
    found = line.analysis.curvature
    verdict: str = bend(found)
    if verdict == "curved" and found is not None:
        verdict = N_("curved: flattens") if found.value > 0 else N_("curved: steepens")
    return _(verdict)


def _value(found: Estimate | None) -> str:
    return numbers.ABSENT if found is None else numbers.signed_exponent(found.value)


def _interval(found: Estimate | None) -> str:
    return numbers.signed_exponent_interval(None if found is None else found.interval)


def _over(found: Estimate | None) -> str:
    return numbers.interval_over(None if found is None or found.interval is None else found.kind)


# --- Sliding windows: the exponent of every few consecutive sizes, and how it changes.


TREND_WORDS = (N_("degrading"), N_("improving"), N_("stable"))
"""The source report's words for a change of the exponent, for the catalogues."""


def window_blocks(view: View) -> tuple[Block, ...]:
    """What stands under the heading of the windows; nothing where none were asked for."""
    size, lines = view.sweep.plan.analysis.window_size, view.lines
    if size is None:
        return ()
    windows, figure = window_table(lines), progression_figure(lines)
    if not windows:
        return (_("No model has two windows of {size} sizes.").format(size=size),)
    bridging = any(
        window.missing_sizes for line in lines if line.progression for window in line.progression.windows
    )
    return present(
        [
            figure
            and Picture(
                "alpha_progression.png",
                _("The exponent of every sliding window, with its interval"),
                figure,
                progression_chart(lines),
            ),
            _("The power law of every {size} consecutive sizes.").format(size=size),
            windows,
            trend_table(lines),
            sentences(
                _(
                    "The change is last minus first window, in percent of the first. By the rule of the "
                    "source report, above +0.01 is called degrading, below −0.01 improving, else stable. The "
                    "trend is a label, not a test; the test is whether the 95% interval of the change "
                    "excludes 0: across seeds where there are several, else against the scatter of the "
                    "points about a curve whose exponent changes. That windows share points is in it."
                ),
                *(
                    [_('A window "without" a size bridges it: the model has no fitted run there.')]
                    if bridging
                    else []
                ),
            ),
        ]
    )


_Windowed = tuple[Line, WindowRecord]


def window_table(lines: Sequence[Line]) -> str:
    """A row per window of every curve that has windows; empty when none has."""
    columns = [
        Column[_Windowed](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Windowed](_("documents"), lambda row: _sizes(row[1])),
        Column[_Windowed](_("training tokens"), lambda row: numbers.count_range(row[1].token_range)),
        Column[_Windowed](_("α"), lambda row: numbers.exponent(row[1].alpha)),
        Column[_Windowed](_("95% interval of α"), lambda row: numbers.exponent_interval(row[1].alpha_ci95)),
        Column[_Windowed](_("A"), lambda row: numbers.coefficient(row[1].A)),
        Column[_Windowed](_("R²"), lambda row: numbers.r_squared(row[1].r_squared)),
    ]
    return table(columns, [(line, window) for line in lines for window in line.windows])


_Trend = tuple[Line, ProgressionRecord]


def trend_table(lines: Sequence[Line]) -> str:
    """Change of the exponent from the first to the last window, a row per curve that has windows."""
    columns = [
        Column[_Trend](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Trend](_("first α"), lambda row: numbers.exponent(row[1].windows[0].alpha)),
        Column[_Trend](_("last α"), lambda row: numbers.exponent(row[1].windows[-1].alpha)),
        Column[_Trend](_("change"), lambda row: numbers.signed_exponent(row[1].alpha_change)),
        Column[_Trend](
            _("95% interval"), lambda row: numbers.signed_exponent_interval(row[1].alpha_change_ci95)
        ),
        Column[_Trend](_("excludes 0"), lambda row: _excludes_zero(row[1].alpha_change_ci95)),
        Column[_Trend](_("percent"), lambda row: numbers.signed_percent(row[1].alpha_change_percent)),
        Column[_Trend](_("trend"), lambda row: _(row[1].trend)),
    ]
    return table(columns, [(line, line.progression) for line in lines if line.progression is not None])


def window_conclusions(lines: Sequence[Line]) -> list[str]:
    """Whether an exponent changes from the first sliding window to the last."""
    found_texts = []
    for line in lines:
        found = line.progression
        if found is None:
            continue
        text = _("The exponent of {model} goes from {first} to {last} over its windows: {change}.").format(
            model=plain(line.label),
            first=numbers.exponent(found.windows[0].alpha),
            last=numbers.exponent(found.windows[-1].alpha),
            change=alpha_text(window_change(line)),
        )
        bent = _("So one power law does not describe this curve, and no prediction is taken from it.")
        found_texts.append(sentences(text, bent) if "windows" in line.rejections else text)
    return found_texts


def _sizes(window: WindowRecord) -> str:
    shown = numbers.count_range(window.sample_range)
    return f"{shown}, {numbers.without(window.missing_sizes)}" if window.missing_sizes else shown


def _excludes_zero(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return numbers.ABSENT
    return _("no") if interval[0] <= 0 <= interval[1] else _("yes")
