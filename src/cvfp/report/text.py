"""The report of a sweep as Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cvfp.records.sweep import Sweep
from cvfp.report import backtests, by_size, law_choice, notes, remarks, tables
from cvfp.report.byte_laws import byte_law_table
from cvfp.report.changes import changes_table, changes_within_arms
from cvfp.report.conclusions import conclusions
from cvfp.report.environment import environment
from cvfp.report.forecasts import forecast_table
from cvfp.report.headline import (
    TWO_PHASE,
    Headline,
    comparison_texts,
    comparisons,
    headline,
    headline_table,
    mixture_table,
    reference_line,
    reference_of,
    relative_table,
    uncompared,
)
from cvfp.report.health import health_table
from cvfp.report.lines import Line, capped
from cvfp.report.markdown import plain
from cvfp.report.recipes import further, size_table
from cvfp.report.recommendations import recommendation_table
from cvfp.report.setting import machine_table, seeds_vary, setting_table, split_table, stopped_on_test
from cvfp.report.sources import line_spreads, spread_table, spread_text
from cvfp.report.windows import trend_table, window_table

FIGURES = ("scaling", "analysis", "progression", "phase1", "phase2")
"""Names of the figures that a report can show."""


def render_report(
    sweep: Sweep, lines: Sequence[Line], figures: Mapping[str, str], files: Sequence[str]
) -> str:
    """The whole report, in the language of the block that this runs in.

    Args:
        sweep: the records.
        lines: `report_lines` of them.
        figures: links to figures, relative to the report, by their names (`FIGURES`); those not there are
            left out.
        files: names of the sweep's files, one list item each.
    """
    content = _sweep_content(sweep, lines) | _line_content(sweep, lines) | _law_content(sweep, lines)
    content |= _headline_content(headline(lines))
    links = {name: figures.get(name) for name in FIGURES}
    text = environment(escape=False).get_template("report.md.j2").render(content, figures=links, files=files)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _sweep_content(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "plan": sweep.plan,
        "points": len(sweep.points),
        "done": sum(point.status == "done" for point in sweep.points),
        "failed": sum(point.status == "failed" for point in sweep.points),
        "not_run": len(sweep.missing()),
        "conclusions": conclusions(sweep, lines),
        "recommendations": recommendation_table(lines),
        "setting": setting_table(sweep),
        "by_size": size_table(sweep.plan),
        "joint": any("joint" in point.config.relevant() for point in sweep.plan.points),
        "averaged": any(further(point.config) for point in sweep.plan.points),
        "splits": split_table(sweep.metadata),
        "notes": [plain(note) for note in sweep.metadata.notes],
        "machine": machine_table(sweep),
        "failures": remarks.failures(sweep),
        "missing": remarks.missing(sweep),
        "stopped_on_test": stopped_on_test(sweep.plan),
        "any_capped": any(capped(point) for point in sweep.points),
    }


def _law_content(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    registered, spread = backtests.registered(sweep, lines), line_spreads(lines)
    return {
        "byte_laws": byte_law_table(lines),
        "spreads": spread_table(spread),
        "dominating": spread_text(spread),
        "forms": law_choice.form_table(lines),
        "bends": law_choice.bend_table(lines),
        "locals": law_choice.local_table(lines),
        "fragile": law_choice.fragile_texts(lines),
        "backtests": backtests.backtest_table(lines),
        "calibration": backtests.calibration_table(registered),
        "calibrated": backtests.calibration_text(registered),
    }


def _line_content(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    kinds, changes = {line.summary.interval_kind for line in lines}, changes_within_arms(lines)
    band = notes.band_note(kinds)
    return {
        "summary": tables.summary_table(lines),
        "interval_note": band,
        "forecast_note": band,
        "alpha_note": notes.alpha_note(kinds, seeds_vary(sweep.plan)),
        "seeds_vary": seeds_vary(sweep.plan),
        "exclusions": remarks.exclusions(lines),
        "changes": changes_table(changes) if changes else "",
        "dimensions": by_size.dimension_table(lines),
        "gaps": by_size.gap_table(lines),
        "forecasts": forecast_table(lines),
        "windows": window_table(lines),
        "trends": trend_table(lines),
        "bridging": any(
            window.missing_sizes for line in lines if line.progression for window in line.progression.windows
        ),
        "phase1": by_size.phase1_table(lines),
        "details": [(line, tables.details_table(line)) for line in lines],
        "health": health_table(lines),
        "priors": remarks.priors(lines),
        "times": by_size.time_table(lines),
        "unscored": [line for line in lines if not line.scored],
    }


def _headline_content(top: Headline | None) -> dict[str, Any]:
    compared = [] if top is None else comparisons(top)
    arms = [] if top is None else [standing.line.arm for standing in top.standings]
    return {
        "top": top,
        "reference": TWO_PHASE if top is None else reference_of(top),
        "mixtures": "" if top is None else mixture_table(top),
        "standings": "" if top is None else headline_table(top),
        "relative": "" if top is None else relative_table(top),
        "reference_line": top and reference_line(top),
        "comparisons": comparison_texts(compared),
        "same_documents": any(one.change.kind == "draws" for one in compared),
        "uncompared": [] if top is None else uncompared(top),
        "several_lines": len(set(arms)) < len(arms),
    }
