"""What the fitted laws say of sizes that were not run, and predictions beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.schema import N_
from cvfp.records.sweep import RegisteredForecast, Sweep, read_forecasts
from cvfp.report import numbers
from cvfp.report.language import _, listed, sentences
from cvfp.report.laws import FORMS, STATUSES, curved, doubted
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.forecast import Backtest, Forecast, Holdout, ScoredForm
from cvfp.scaling.points import cells, mean_over


def forecast_table(lines: Sequence[Line]) -> str:
    """One row per line and predicted size; empty when no line has a law."""
    header = (
        _("line"),
        _("training tokens"),
        _("times the largest fitted"),
        _("predicted PPL"),
        _("95% prediction interval"),
    )
    rows = [row for line in lines for row in _rows(line)]
    return table(header, rows) if rows else ""


def _rows(line: Line) -> list[list[str]]:
    if not line.fitted:
        return []
    largest = max(point.train_tokens for point in line.fitted)
    return [
        [
            plain(line.label),
            numbers.count(one.tokens),
            f"{one.tokens / largest:.3g}",
            numbers.ppl(one.ppl),
            numbers.ppl_interval(one.low, one.high),
        ]
        for one in line.forecasts
    ]


def forecast_conclusions(lines: Sequence[Line]) -> list[str]:
    """What the laws say of the farthest size that most lines are predicted at, and whether it orders them.

    A law that misses its own largest size is not asked, and none of a line that it does not describe.
    """
    missed = [line for line in lines if line.backtest is not None and not line.backtest.held]
    fit = [line for line in lines if line not in missed and not curved(line) and not doubted(line)]
    asked = [line for line in fit if line.forecasts]
    known = [(line, line.forecasts[-1]) for line in asked]
    known = [(line, one) for line, one in known if one.low is not None]
    found = [_missed_text(missed)] if missed else []
    if not known:
        return found
    tokens = statistics.mode(one.tokens for _line, one in known)
    return [*found, _lowest_text([(line, one) for line, one in known if one.tokens == tokens])]


def _missed_text(lines: Sequence[Line]) -> str:
    text = _("Laws that miss their own largest size, so that no prediction is taken from them: {lines}.")
    one = _("{line} (predicted {ppl} from the smaller sizes, 95% interval {interval}; measured {measured})")
    shown = [
        one.format(
            line=plain(line.label),
            ppl=numbers.ppl(line.backtest.predicted),
            interval=numbers.ppl_interval(line.backtest.low, line.backtest.high),
            measured=numbers.ppl(line.backtest.measured),
        )
        for line in lines
    ]
    return text.format(lines=_("; ").join(shown))


def _lowest_text(known: Sequence[tuple[Line, Forecast]]) -> str:
    line, lowest = min(known, key=lambda pair: pair[1].ppl)
    text = _("If the power laws go on, {line} is lowest at {tokens} tokens, {ppl} ({kind} {interval}).")
    sentence = text.format(
        tokens=numbers.count(lowest.tokens),
        line=plain(line.label),
        ppl=numbers.ppl(lowest.ppl),
        kind=numbers.interval_name(line.law.interval_kind),
        interval=numbers.ppl_interval(lowest.low, lowest.high),
    )
    reach = lowest.high if lowest.high is not None else float("inf")
    close = [plain(other.label) for other, one in known if other is not line and one.low <= reach]
    if not close:
        return sentence
    overlap = _("The intervals of {lines} overlap it: the order is not supported.")
    return sentences(sentence, overlap.format(lines=listed(close)))


# --- Predictions beside what was measured: of hidden sizes, and forecasts registered before their size ran.


PREDICTORS = FORMS | {"last_slope": N_("last local slope")}


def backtest_table(lines: Sequence[Line]) -> str:
    """One row per line, hidden sizes and form; empty where no line has sizes to hide."""
    header = (
        _("line"),
        _("hidden documents"),
        _("predicted by"),
        _("predicted PPL (95% interval)"),
        _("measured there"),
        _("interval score over that of the last local slope"),
    )
    rows = [
        _holdout_row(line, found, form) for line in lines for found in line.holdouts for form in found.forms
    ]
    return table(header, rows, left=3) if rows else ""


def _holdout_row(line: Line, found: Holdout, form: ScoredForm) -> list[str]:
    cells = [
        plain(line.label),
        ", ".join(map(numbers.count, found.hidden)),
        _(PREDICTORS[form.form]),
    ]
    if not form.predictions:
        why = _("no interval") if form.status == "converged" else _(STATUSES[form.status])
        return [*cells, why, numbers.ABSENT, numbers.ABSENT]
    return [
        *cells,
        _("; ").join(_predicted(one) for one in form.predictions),
        _("; ").join(_measured(one.measured, one.held) for one in form.predictions),
        numbers.decimals(form.ratio, 2),
    ]


def _predicted(one: Backtest | RegisteredForecast) -> str:
    ppl = one.predicted if isinstance(one, Backtest) else one.ppl
    return f"{numbers.ppl(ppl)} ({numbers.ppl_interval(one.low, one.high)})"


def _measured(ppl: float, held: bool) -> str:
    verdict = _("in it") if held else _("missed")
    return f"{numbers.ppl(ppl)}, {verdict}"


@dataclass(frozen=True)
class Registered:
    """A forecast beside the geometric mean over the draws that its size has been run with; None before."""

    forecast: RegisteredForecast
    line: Line | None
    measured: float | None

    @property
    def held(self) -> bool | None:
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
    """One row per registered forecast; empty where there is none."""
    header = (
        _("line"),
        _("documents"),
        _("predicted by"),
        _("made"),
        _("from documents"),
        _("predicted PPL (95% interval)"),
        _("measured there"),
    )
    return table(header, [_registered_row(one) for one in found], left=4) if found else ""


def calibration_text(found: Sequence[Registered]) -> str:
    """How many of the intervals held; empty while no forecast has come due."""
    due = [one.held for one in found if one.held is not None]
    if not due:
        return ""
    text = _("{held} of {count} intervals held (nominal 95%).")
    return text.format(held=sum(due), count=len(due))


def _scored(one: RegisteredForecast, line: Line | None) -> Registered:
    points = [] if line is None else [p for p in line.scored if p.num_samples == one.num_samples]
    return Registered(one, line, mean_over(cells(points), "val_ppl"))


def _registered_row(one: Registered) -> list[str]:
    said = one.forecast
    name = f"{said.arm} {said.config_name}" if one.line is None else one.line.label
    return [
        plain(name),
        numbers.count(said.num_samples),
        _(PREDICTORS[said.rule]),
        plain(said.made),
        ", ".join(map(numbers.count, said.known_samples)),
        _predicted(said),
        _("not run yet") if one.measured is None else _measured(one.measured, one.held),
    ]
