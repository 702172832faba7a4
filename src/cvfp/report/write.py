"""Writing the report of a sweep directory, from its records alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cvfp.records.files import write_text
from cvfp.records.sweep import Sweep, SweepFiles, load_sweep
from cvfp.report.figures.analysis import write_analysis
from cvfp.report.figures.fonts import font_note
from cvfp.report.figures.phase1 import write_phase1
from cvfp.report.figures.phase2 import write_phase2
from cvfp.report.figures.progression import write_progression
from cvfp.report.figures.scaling import write_scaling
from cvfp.report.interactive.charts import report_charts
from cvfp.report.language import SOURCE, _, speaking
from cvfp.report.lines import Line, report_lines
from cvfp.report.page import render_page
from cvfp.report.text import render_report

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
