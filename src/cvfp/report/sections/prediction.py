"""Whether the laws can predict: forecasts beyond the data, and predictions beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.schema import N_
from cvfp.records.sweep import RegisteredForecast, Sweep, read_forecasts
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Picture, Section, present
from cvfp.report.figures.forecasts import forecast_figure
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, bold, plain, table
from cvfp.report.sections.forms import FORMS, STATUSES
from cvfp.report.verdicts import band_note
from cvfp.report.view import View
from cvfp.scaling.forecast import Backtest, Forecast, Holdout, ScoredForm
from cvfp.scaling.points import cells, mean_over


def section(view: View) -> Section | None:
    """None where no curve has a law, and none was forecast."""
    known = registered(view.sweep, view.lines)
    figure = forecast_figure(view.lines)
    kinds = {line.summary.interval_kind for line in view.lines}
    forecasts, backtests = forecast_table(view.lines), backtest_table(view.lines)
    if not (known or figure or forecasts or any(line.law for line in view.lines)):
        return None
    text = _("What each law said of its largest size, which it had not seen, beside what was measured")
    none = _("No forecast: something speaks against every power law of these models.")
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
                forecasts or none,
                sentences(_("The fitted laws read beyond their data, if they go on."), band_note(kinds))
                if forecasts
                else "",
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


_Far = tuple[Line, Forecast]


def forecast_table(lines: Sequence[Line]) -> str:
    """A row per curve whose law may be read beyond its data, and size; empty when there is none."""
    columns = [
        Column[_Far](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Far](_("training tokens"), lambda row: numbers.count(row[1].tokens)),
        Column[_Far](_("times the largest fitted"), _times_largest),
        Column[_Far](_("predicted PPL"), lambda row: numbers.ppl(row[1].ppl)),
        Column[_Far](_("95% prediction interval"), lambda row: numbers.ppl_interval(row[1].low, row[1].high)),
    ]
    return table(columns, [(line, one) for line in lines if line.extrapolates for one in line.forecasts])


def _times_largest(row: _Far) -> str:
    largest = max(point.train_tokens for point in row[0].fitted)
    return f"{row[1].tokens / largest:.3g}"


def forecast_conclusions(lines: Sequence[Line]) -> list[str]:
    """What the laws say of the farthest size that most curves are predicted at, and whether it orders them.

    Only laws that nothing speaks against are asked; one that misses its own largest size is named.
    """
    missed = [line for line in lines if "largest size" in line.rejections]
    asked = [line for line in lines if line.extrapolates and line.forecasts]
    known = [(line, line.forecasts[-1]) for line in asked]
    known = [(line, one) for line, one in known if one.low is not None]
    found = [_missed_text(missed)] if missed else []
    if not known:
        return found
    tokens = statistics.mode(one.tokens for _line, one in known)
    return [*found, _lowest_text([(line, one) for line, one in known if one.tokens == tokens])]


def _missed_text(lines: Sequence[Line]) -> str:
    text = _("Laws that miss their own largest size, so that no prediction is taken from them: {models}.")
    one = _("{model} (predicted {ppl} from the smaller sizes, 95% interval {interval}; measured {measured})")
    shown = [
        one.format(
            model=plain(line.label),
            ppl=numbers.ppl(line.backtest.predicted),
            interval=numbers.ppl_interval(line.backtest.low, line.backtest.high),
            measured=numbers.ppl(line.backtest.measured),
        )
        for line in lines
        if line.backtest is not None
    ]
    return text.format(models=_("; ").join(shown))


def _lowest_text(known: Sequence[_Far]) -> str:
    line, lowest = min(known, key=lambda pair: pair[1].ppl)
    text = _("If the power laws go on, {model} is lowest at {tokens} tokens, {ppl} ({kind} {interval}).")
    sentence = text.format(
        tokens=numbers.count(lowest.tokens),
        model=plain(line.label),
        ppl=numbers.ppl(lowest.ppl),
        kind=numbers.interval_name(line.analysis.law.interval_kind),
        interval=numbers.ppl_interval(lowest.low, lowest.high),
    )
    reach = lowest.high if lowest.high is not None else float("inf")
    close = [plain(other.label) for other, one in known if other is not line and (one.low or 0.0) <= reach]
    if not close:
        return sentence
    overlap = _("The intervals of {models} overlap it: the order is not supported.")
    return sentences(sentence, overlap.format(models=listed(close)))


# --- Predictions of hidden sizes beside what was measured.


PREDICTORS = FORMS | {"last_slope": N_("last local slope")}

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
        return _("no interval") if form.status == "converged" else _(STATUSES[form.status])
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
        due = [one.held for one in found if one.forecast.rule == rule and one.held is not None]
        if due:
            text = _("{rule}: {held} of {count} intervals held")
            texts.append(text.format(rule=_(PREDICTORS[rule]), held=sum(due), count=len(due)))
    if not texts:
        return ""
    return _("Of the forecasts registered before their size ran (nominal 95%), by {rules}.").format(
        rules=_("; ").join(texts)
    )


def _scored(one: RegisteredForecast, line: Line | None) -> Registered:
    points = [] if line is None else [p for p in line.scored if p.num_samples == one.num_samples]
    return Registered(one, line, mean_over(cells(points), "val_ppl"))


def _name(one: Registered) -> str:
    said = one.forecast
    return plain(f"{said.arm} {said.config_name}" if one.line is None else one.line.label)
