"""The report of a sweep as Markdown."""

from __future__ import annotations

import re
from typing import Any

from cvfp.records.sweep import Sweep
from cvfp.report import remarks, tables
from cvfp.report.environment import environment
from cvfp.report.headline import Headline, comparisons, headline, headline_table, uncompared
from cvfp.report.health import health_table
from cvfp.report.lines import Line, capped
from cvfp.report.setting import seeds_vary, setting_table, split_table, stopped_on_test


def render_report(sweep: Sweep, lines: list[Line], figure: str | None, files: list[str]) -> str:
    """The whole report.

    Args:
        sweep: the records.
        lines: `report_lines` of them.
        figure: link to the scaling figure, relative to the report; None where there is nothing to draw.
        files: names of the sweep's files, one list item each.
    """
    content = _sweep_content(sweep) | _line_content(lines) | _headline_content(headline(lines))
    text = environment(escape=False).get_template("report.md.j2").render(content, figure=figure, files=files)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _sweep_content(sweep: Sweep) -> dict[str, Any]:
    return {
        "plan": sweep.plan,
        "points": len(sweep.points),
        "done": sum(point.status == "done" for point in sweep.points),
        "not_run": len(sweep.missing()),
        "setting": setting_table(sweep),
        "splits": split_table(sweep.metadata),
        "failures": remarks.failures(sweep),
        "missing": remarks.missing(sweep),
        "stopped_on_test": stopped_on_test(sweep.plan),
        "seeds_vary": seeds_vary(sweep.plan),
        "any_capped": any(capped(point) for point in sweep.points),
    }


def _line_content(lines: list[Line]) -> dict[str, Any]:
    return {
        "summary": tables.summary_table(lines),
        "interval_kinds": {line.summary.interval_kind for line in lines},
        "exclusions": remarks.exclusions(lines),
        "forecasts": tables.forecast_table(lines) if any(line.forecasts for line in lines) else "",
        "windows": tables.window_table(lines) if any(line.progression for line in lines) else "",
        "bridging": any(
            window.missing_sizes for line in lines if line.progression for window in line.progression.windows
        ),
        "trends": tables.trend_table(lines),
        "details": [(line, tables.details_table(line)) for line in lines],
        "health": health_table(lines),
        "priors": remarks.priors(lines),
        "unscored": [line for line in lines if not line.scored],
    }


def _headline_content(top: Headline | None) -> dict[str, Any]:
    arms = [] if top is None else [standing.line.arm for standing in top.standings]
    return {
        "top": top,
        "standings": "" if top is None else headline_table(top),
        "comparisons": [] if top is None else comparisons(top),
        "uncompared": [] if top is None else uncompared(top),
        "several_lines": len(set(arms)) < len(arms),
    }
