"""Whether the laws can predict: forecasts beyond the data, and predictions beside what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.sweep import RegisteredForecast, Sweep, read_forecasts
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Picture, Section, present
from cvfp.report.figures.forecasts import forecast_figure
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, bold, plain, table
from cvfp.report.sections.forms import FORMS, STATUSES
from cvfp.report.view import View
from cvfp.scaling.forecast import Backtest, Holdout, ScoredForm
from cvfp.scaling.outlook import REFUSALS, Extrapolated
from cvfp.scaling.points import cells, mean_over


def section(view: View) -> Section | None:
    """None where no curve has a law, and none was forecast."""
    known = registered(view.sweep, view.lines)
    figure = forecast_figure(view.lines)
    forecasts, backtests = forecast_table(view.lines), backtest_table(view.lines)
    if not (known or figure or forecasts or any(line.law for line in view.lines)):
        return None
    text = _("What each law said of its largest size, which it had not seen, beside what was measured")
    return Section(
        _("Can it predict?"),
        present(
            [
                figure and Picture("forecasts.png", text, figure),
                _(
                    "A bar that reaches 0 held. The last local slope goes on from the two largest known "
                    "sizes: what any law has to beat."
                )
                if figure
                else "",
                bold(calibration_text(known)) if calibration_text(known) else "",
                forecasts,
                sentences(
                    _(
                        "One forecast per model, from all of its seeds at once: the envelope of the forms "
                        "of the "
                        "law that fit within error. The interval of the law is where the mean over many "
                        "new seeds "
                        "lies, that of one new run has its own error on top."
                    ),
                    *refused_texts(view.lines),
                ),
                Fold(
                    _("Every prediction of a hidden size"),
                    (
                        backtests,
                        _(
                            "The largest size is hidden and predicted from the rest; where there are sizes "
                            "enough, the two largest too. A score below 1 is better than the last local "
                            "slope: narrow intervals pay, missed ones cost. Measured is the geometric mean "
                            "over seeds."
                        ),
                    )
                    if backtests
                    else (),
                ),
                Fold(
                    _("Forecasts registered before their size ran"),
                    (
                        calibration_table(known),
                        _(
                            "Each was written down, with its hash, before its size ran, and is held against "
                            "the geometric mean over the seeds of that size. The log has the hashes in their "
                            "order; a file that is deleted or written again together with the log does not "
                            "show."
                        ),
                    )
                    if known
                    else (),
                ),
            ]
        ),
    )


# --- Beyond the data.


_Far = tuple[Line, Extrapolated]


def forecast_table(lines: Sequence[Line]) -> str:
    """A row per curve with a forecast, and size; empty when there is none."""
    columns = [
        Column[_Far](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Far](_("training tokens"), lambda row: numbers.count(row[1].tokens)),
        Column[_Far](_("times the largest fitted"), _times_largest),
        Column[_Far](_("predicted PPL"), lambda row: numbers.ppl(row[1].ppl)),
        Column[_Far](_("95% interval of the law"), lambda row: numbers.ppl_interval(row[1].low, row[1].high)),
        Column[_Far](
            _("95% interval of one new run"),
            lambda row: numbers.ppl_interval(row[1].run_low, row[1].run_high),
        ),
    ]
    return table(columns, [(line, one) for line in lines for one in line.forecasts])


def refused_texts(lines: Sequence[Line]) -> list[str]:
    """A sentence per reason why curves have no forecast."""
    reasons: dict[str, list[str]] = {}
    for line in lines:
        if line.law is not None and line.analysis.outlook.refused is not None:
            reasons.setdefault(_(REFUSALS[line.analysis.outlook.refused]), []).append(plain(line.label))
    text = _("No forecast of {models}: {reason}.")
    return [text.format(models=listed(labels), reason=reason) for reason, labels in reasons.items()]


def _times_largest(row: _Far) -> str:
    largest = max(point.train_tokens or 0 for point in row[0].fitted)
    return f"{row[1].tokens / largest:.3g}"


def forecast_conclusions(lines: Sequence[Line]) -> list[str]:
    """What is forecast at the farthest size that most curves are predicted at, and whether it orders them."""
    known = [(line, line.forecasts[-1]) for line in lines if line.forecasts]
    if not known:
        return refused_texts(lines)
    tokens = statistics.mode(one.tokens for _line, one in known)
    return [_lowest_text([(line, one) for line, one in known if one.tokens == tokens]), *refused_texts(lines)]


def _lowest_text(known: Sequence[_Far]) -> str:
    line, lowest = min(known, key=lambda pair: pair[1].ppl)
    text = _("The forecast of {model} is lowest at {tokens} tokens, {ppl} ({kind} {interval}).")
    sentence = text.format(
        tokens=numbers.count(lowest.tokens),
        model=plain(line.label),
        ppl=numbers.ppl(lowest.ppl),
        kind=_("95% interval of the law"),
        interval=numbers.ppl_interval(lowest.low, lowest.high),
    )
    close = [plain(other.label) for other, one in known if other is not line and one.low <= lowest.high]
    if not close:
        return sentence
    overlap = _("The intervals of {models} overlap it: the order is not supported.")
    return sentences(sentence, overlap.format(models=listed(close)))


# --- Predictions of hidden sizes beside what was measured.


PREDICTORS = FORMS | {"outlook": N_("the forecast"), "last_slope": N_("last local slope")}

_Held = tuple[Line, Holdout, ScoredForm]


def backtest_table(lines: Sequence[Line]) -> str:
    """A row per curve, hidden sizes and form; empty where no curve has sizes to hide."""
    columns = [
        Column[_Held](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Held](
            _("hidden documents"), lambda row: ", ".join(map(numbers.count, row[1].hidden)), words=True
        ),
        Column[_Held](_("predicted by"), lambda row: _(PREDICTORS[row[2].form]), words=True),
        Column[_Held](_("predicted PPL (95% interval)"), lambda row: _all_predicted(row[2])),
        Column[_Held](_("measured there"), lambda row: _all_measured(row[2])),
        Column[_Held](
            _("interval score over that of the last local slope"),
            lambda row: numbers.decimals(row[2].ratio if row[2].predictions else None, 2),
        ),
    ]
    return table(
        columns, [(line, found, form) for line in lines for found in line.holdouts for form in found.forms]
    )


def _all_predicted(form: ScoredForm) -> str:
    if not form.predictions:
        return _("no interval") if form.status == "converged" else _((STATUSES | REFUSALS)[form.status])
    return _("; ").join(_predicted(one) for one in form.predictions)


def _all_measured(form: ScoredForm) -> str:
    if not form.predictions:
        return numbers.ABSENT
    return _("; ").join(_measured(one.measured, one.held) for one in form.predictions)


def _predicted(one: Backtest | RegisteredForecast) -> str:
    ppl = one.predicted if isinstance(one, Backtest) else one.ppl
    return f"{numbers.ppl(ppl)} ({numbers.ppl_interval(one.low, one.high)})"


def _measured(ppl: float, held: bool | None) -> str:
    verdict = _("in it") if held else _("missed")
    return f"{numbers.ppl(ppl)}, {verdict}"


# --- Forecasts that were registered before their size ran.


@dataclass(frozen=True)
class Registered:
    """A forecast beside the geometric mean over the seeds that its size has been run with; None before."""

    forecast: RegisteredForecast
    line: Line | None
    measured: float | None

    @property
    def held(self) -> bool | None:
        """Whether its interval holds what was measured; None before."""
        if self.measured is None:
            return None
        one = self.forecast
        return one.low <= self.measured and (one.high is None or self.measured <= one.high)


def registered(sweep: Sweep, lines: Sequence[Line]) -> list[Registered]:
    """The forecasts of a sweep with what came of them. Raises as `read_forecasts`."""
    if sweep.files is None:
        return []
    known = {(line.arm, line.summary.config_hash): line for line in lines}
    return [
        _scored(one, known.get((one.arm, one.config_hash))) for one in read_forecasts(sweep.files.forecasts)
    ]


def calibration_table(found: Sequence[Registered]) -> str:
    """A row per registered forecast; empty where there is none."""
    columns = [
        Column[Registered](_("model"), _name, words=True),
        Column[Registered](_("documents"), lambda one: numbers.count(one.forecast.num_samples), words=True),
        Column[Registered](_("predicted by"), lambda one: _(PREDICTORS[one.forecast.rule]), words=True),
        Column[Registered](_("made"), lambda one: plain(one.forecast.made), words=True),
        Column[Registered](
            _("from documents"), lambda one: ", ".join(map(numbers.count, one.forecast.known_samples))
        ),
        Column[Registered](_("predicted PPL (95% interval)"), lambda one: _predicted(one.forecast)),
        Column[Registered](
            _("measured there"),
            lambda one: _("not run yet") if one.measured is None else _measured(one.measured, one.held),
        ),
    ]
    return table(columns, found)


def calibration_text(found: Sequence[Registered]) -> str:
    """How many of the intervals held, by the rule that made them; empty while no forecast has come due."""
    texts = []
    for rule in dict.fromkeys(one.forecast.rule for one in found):
        due = [one for one in found if one.forecast.rule == rule and one.measured is not None]
        if due:
            text = _("{rule}: {held} of {count} intervals held, predicted PPL {bias} against measured")
            held = sum(bool(one.held) for one in due)
            bias = statistics.fmean(math.log(one.forecast.ppl / one.measured) for one in due if one.measured)
            shown = numbers.signed_percent(100 * math.expm1(bias))
            texts.append(text.format(rule=_(PREDICTORS[rule]), held=held, count=len(due), bias=shown))
    if not texts:
        return ""
    return _("Forecasts registered before their size ran, 95% intervals: {rules}.").format(
        rules=_("; ").join(texts)
    )


def _scored(one: RegisteredForecast, line: Line | None) -> Registered:
    points = [] if line is None else [p for p in line.scored if p.num_samples == one.num_samples]
    return Registered(one, line, mean_over(cells(points), "val_ppl"))


def _name(one: Registered) -> str:
    said = one.forecast
    return plain(f"{said.arm} {said.config_name}" if one.line is None else one.line.label)
