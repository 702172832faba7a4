"""Writing the report of a sweep directory, from its records alone."""

from __future__ import annotations

from pathlib import Path

from cvfp.records.files import write_text
from cvfp.records.sweep import Sweep, SweepFiles, load_sweep
from cvfp.report.figure import write_scaling_figure
from cvfp.report.lines import Line, report_lines
from cvfp.report.page import render_page
from cvfp.report.text import render_report

SCALING = "scaling.png"


def write_report(directory: Path) -> list[Path]:
    """(Re)write `report.md`, `report.html` and `figures/scaling.png` of a sweep directory.

    A sweep in progress gets a report of what is there, which says what is missing; without any scored
    point there is no figure. Returns the files written.

    Raises:
        InputError: as `load_sweep`.
        CvfpError: the directory cannot be written.
    """
    files = SweepFiles(Path(directory))
    sweep = load_sweep(directory)
    lines = report_lines(sweep)
    figure = _write_figure(files, lines)
    link = None if figure is None else f"{files.figures.name}/{SCALING}"
    markdown = render_report(sweep, lines, link, _file_list(files, sweep, figure))
    write_text(files.report, markdown)
    images = {} if figure is None else {link: figure.read_bytes()}
    write_text(files.page, render_page(markdown, f"{sweep.plan.name}: CVFP scaling report", images))
    return [files.report, files.page, *([] if figure is None else [figure])]


def _write_figure(files: SweepFiles, lines: list[Line]) -> Path | None:
    """The figure's path; None when there is nothing to draw, and then no older figure stays behind."""
    path = files.figures / SCALING
    if write_scaling_figure(path, lines):
        return path
    path.unlink(missing_ok=True)
    return None


def _file_list(files: SweepFiles, sweep: Sweep, figure: Path | None) -> list[str]:
    described = {
        files.plan: "every planned point with all its settings, and the analysis",
        files.metadata: "software, hardware, data and times",
        files.points: "one row per point",
        files.summary: "one row per line",
        files.progressions: "the exponents of sliding windows",
        files.output: "the log of the run",
    }
    found = [f"`{path.name}`: {what}" for path, what in described.items() if path.exists()]
    if sweep.runs:
        found.append(f"`{files.runs.name}/`: a directory for each of {len(sweep.runs)} runs")
    if figure is not None:
        found.append(f"`{files.figures.name}/{SCALING}`: the figure above")
    return [*found, f"`{files.page.name}`: this report as one page"]
