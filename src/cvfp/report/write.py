"""The report of a sweep, from its records alone: its text as Markdown, and writing it with its figures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cvfp.records.files import write_text
from cvfp.records.sweep import Sweep, SweepFiles, load_sweep
from cvfp.report import forecasts, laws, tables, verdicts
from cvfp.report.changes import changes_table, changes_within_arms
from cvfp.report.conclusions import conclusions
from cvfp.report.figures.analysis import write_analysis
from cvfp.report.figures.phases import write_phase1, write_phase2
from cvfp.report.figures.progression import write_progression
from cvfp.report.figures.scaling import write_scaling
from cvfp.report.figures.style import font_note
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
from cvfp.report.interactive.charts import report_charts
from cvfp.report.language import SOURCE, _, speaking
from cvfp.report.laws import byte_law_table, trend_table, window_table
from cvfp.report.lines import Line, capped, report_lines
from cvfp.report.markdown import plain
from cvfp.report.page import environment, render_page
from cvfp.report.recommendations import recommendation_table
from cvfp.report.setting import (
    further,
    machine_table,
    seeds_vary,
    setting_table,
    size_table,
    split_table,
    stopped_on_test,
)
from cvfp.report.sources import line_spreads, spread_table, spread_text
from cvfp.report.tables import health_table

# --- The report of a sweep as Markdown.


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
        "failures": tables.failures(sweep),
        "missing": tables.missing(sweep),
        "stopped_on_test": stopped_on_test(sweep.plan),
        "any_capped": any(capped(point) for point in sweep.points),
    }


def _law_content(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    registered, spread = forecasts.registered(sweep, lines), line_spreads(lines)
    return {
        "byte_laws": byte_law_table(lines),
        "spreads": spread_table(spread),
        "dominating": spread_text(spread),
        "forms": laws.form_table(lines),
        "bends": laws.bend_table(lines),
        "locals": laws.local_table(lines),
        "fragile": laws.fragile_texts(lines),
        "backtests": forecasts.backtest_table(lines),
        "calibration": forecasts.calibration_table(registered),
        "calibrated": forecasts.calibration_text(registered),
    }


def _line_content(sweep: Sweep, lines: Sequence[Line]) -> dict[str, Any]:
    kinds, changes = {line.summary.interval_kind for line in lines}, changes_within_arms(lines)
    band = verdicts.band_note(kinds)
    return {
        "summary": tables.summary_table(lines),
        "interval_note": band,
        "forecast_note": band,
        "alpha_note": verdicts.alpha_note(kinds, seeds_vary(sweep.plan)),
        "seeds_vary": seeds_vary(sweep.plan),
        "exclusions": tables.exclusions(lines),
        "changes": changes_table(changes) if changes else "",
        "dimensions": tables.dimension_table(lines),
        "gaps": tables.gap_table(lines),
        "forecasts": forecast_table(lines),
        "windows": window_table(lines),
        "trends": trend_table(lines),
        "bridging": any(
            window.missing_sizes for line in lines if line.progression for window in line.progression.windows
        ),
        "phase1": tables.phase1_table(lines),
        "details": [(line, tables.details_table(line)) for line in lines],
        "health": health_table(lines),
        "priors": tables.priors(lines),
        "times": tables.time_table(lines),
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


# --- Writing the report of a sweep directory, from its records alone.


Draw = Callable[[Path], bool]


def write_report(
    directory: Path, language: str = SOURCE, note: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """(Re)write `report.md`, `report.html` and the figures of a sweep directory.

    A sweep in progress gets a report of what is there, which says what is missing; a figure with nothing to
    show is left out. `note` is told which characters of names no font has. Returns the files written.

    Raises:
        InputError: as `load_sweep`; a language that there is no catalogue of.
        CvfpError: the directory cannot be written.
    """
    files = SweepFiles(Path(directory))
    sweep = load_sweep(directory)
    lines = report_lines(sweep)
    lacking = font_note(line.label for line in lines)
    if lacking is not None:
        note(lacking)
    with speaking(language):
        figures = draw_figures(files.figures, _drawings(sweep, lines))
        links = {name: f"{files.figures.name}/{path.name}" for name, path in figures.items()}
        markdown = render_report(sweep, lines, links, _file_list(files, sweep, list(figures.values())))
        write_text(files.report, markdown)
        images = {links[name]: path.read_bytes() for name, path in figures.items()}
        title = _("{name}: CVFP scaling report").format(name=sweep.plan.name)
        charts = {links[name]: chart for name, chart in report_charts(lines).items() if name in links}
        write_text(files.page, render_page(markdown, title, images, charts, language))
    return [files.report, files.page, *figures.values()]


def _drawings(sweep: Sweep, lines: Sequence[Line]) -> dict[str, tuple[str, Draw]]:
    """File name and drawing of every figure, by its name in the report."""
    return {
        "scaling": ("context_dim_scaling.png", lambda path: write_scaling(path, lines)),
        "analysis": ("context_dim_analysis.png", lambda path: write_analysis(path, lines)),
        "progression": ("alpha_progression.png", lambda path: write_progression(path, lines)),
        "phase1": ("phase1_convergence.png", lambda path: write_phase1(path, sweep, lines)),
        "phase2": ("phase2_curves.png", lambda path: write_phase2(path, sweep, lines)),
    }


def draw_figures(folder: Path, drawings: dict[str, tuple[str, Draw]]) -> dict[str, Path]:
    """Paths of the figures by name. Where there is nothing to draw, no older figure stays behind."""
    drawn = {}
    for name, (file, draw) in drawings.items():
        path = folder / file
        if draw(path):
            drawn[name] = path
        else:
            path.unlink(missing_ok=True)
    return drawn


def _file_list(files: SweepFiles, sweep: Sweep, figures: Sequence[Path]) -> list[str]:
    described = {
        files.output: _("the log of the run"),
        files.points: _("one row per point"),
        files.summary: _("one row per line"),
        files.progressions: _("the exponents of sliding windows"),
        files.plan: _("every planned point with all its settings, and the analysis"),
        files.metadata: _("software, hardware, data and times"),
    }
    found = [f"`{path.name}`: {what}" for path, what in described.items() if path.exists()]
    if sweep.runs:
        text = _("a directory for each of {count} runs").format(count=len(sweep.runs))
        found.append(f"`{files.runs.name}/`: {text}")
    found += [f"`{files.figures.name}/{path.name}`" for path in figures]
    page = _("this report as one page")
    return [*found, f"`{files.page.name}`: {page}"]
