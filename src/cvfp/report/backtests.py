"""Predictions beside what was measured: of hidden sizes, and forecasts registered before their size ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.forecasts import RegisteredForecast, read_forecasts
from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.law_choice import FORMS, STATUSES
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.cells import cells, mean_over
from cvfp.scaling.forecast import Backtest
from cvfp.scaling.holdout import Holdout, ScoredForm

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
