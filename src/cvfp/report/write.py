"""Writing the report of a sweep directory, from its records alone: text, page and figures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cvfp.records.files import write_text
from cvfp.records.sweep import SweepFiles, load_sweep
from cvfp.report.blocks import Link, Picture, Section, page_of
from cvfp.report.figures.style import font_note, save
from cvfp.report.language import LANGUAGES, NAMES, SOURCE, Language, _, in_language, sentences, speaking
from cvfp.report.lines import diverged_text, report_lines
from cvfp.report.markdown import bold, plain
from cvfp.report.page import render_page
from cvfp.report.sections import (
    ablations,
    answer,
    appendix,
    contexts,
    parameters,
    prediction,
    scaling,
    settings,
    training,
)
from cvfp.report.view import View

SECTIONS: tuple[Callable[[View], Section | None], ...] = (
    answer.section,
    scaling.section,
    parameters.section,
    ablations.section,
    training.section,
    contexts.section,
    prediction.section,
    settings.section,
    appendix.section,
)
"""Of a report, in their order. A new section is a module with such a function."""


def write_report(
    directory: Path, language: Language = SOURCE, note: Callable[[str], None] = lambda line: None
) -> list[Path]:
    """(Re)write the report of a sweep directory: `report.md`, `report.html` and the figures.

    In another language than English their names have it before the suffix (`report.ja.html`). Reports that
    are there in other languages are written again too, and all link to each other. A sweep in progress gets a
    report of what is there, which says what is missing; a figure with nothing to show is left out. `note` is
    told which characters no font has. Returns the files written, those of `language` first.

    Raises:
        InputError: as `load_sweep`; a language that there is no catalogue of.
        CvfpError: the directory cannot be written.
    """
    with speaking(language):  # an unknown one is told before anything is written
        sweep = load_sweep(directory)
    files = SweepFiles(Path(directory))
    view = View(sweep, report_lines(sweep), _place(Path(directory)))
    there: list[Language] = [
        one for one in LANGUAGES if one == language or in_language(files.report, one).exists()
    ]
    drawn, written = set[Path](), list[Path]()
    for one in sorted(there, key=lambda one: one != language):
        with speaking(one):
            lacking = font_note([*(line.label for line in view.lines), _("training tokens")])
            if lacking is not None and one == language:
                note(lacking)
            pages, figures = _write(view, files, one, there)
            written += [*pages, *figures]
            drawn.update(figures)
    for path in files.figures.glob("*.png"):
        if path not in drawn and path.stem.split(".")[0] in KNOWN_FIGURES:
            path.unlink(missing_ok=True)
    return written


KNOWN_FIGURES = (
    "ppl",
    "ratio",
    "context_dim_scaling",
    "isoflops",
    "learning_curves",
    "compute",
    "context_dim_analysis",
    "phase1_convergence",
    "phase2_curves",
    "forecasts",
    "alpha_progression",
)
"""What figures of a report are, or were, called: one with nothing to show any more does not stay behind."""


def render_report(view: View, link: Link, *lead: str) -> tuple[str, list[Section]]:
    """The whole report as Markdown, in the language of the block that this runs in, and its sections.

    Args:
        view: the sweep.
        link: where a picture lies, relative to the report.
        lead: lines under what the sweep says of itself.
    """
    sections = [section for make in SECTIONS if (section := make(view)) is not None]
    return page_of(report_title(view), sections, link, *_lead(view), *lead), sections


def report_title(view: View) -> str:
    """What stands on top."""
    return _("{name}: test perplexity against training data").format(name=plain(view.sweep.plan.name))


def _write(
    view: View, files: SweepFiles, language: Language, there: Sequence[Language]
) -> tuple[list[Path], list[Path]]:
    def link(picture: Picture) -> str:
        return f"{files.figures.name}/{in_language(Path(picture.file), language).name}"

    others = [one for one in there if one != language]
    markdown, sections = render_report(view, link, languages(files.report, others))
    pictures = {link(picture): picture for section in sections for picture in section.pictures()}
    for name, picture in pictures.items():
        save(picture.figure, files.directory / name)
    page = render_page(
        markdown.replace(languages(files.report, others), languages(files.page, others))
        if others
        else markdown,
        report_title(view),
        {name: (files.directory / name).read_bytes() for name in pictures},
        {name: one.chart for name, one in pictures.items() if one.chart is not None},
        language,
    )
    paths = [in_language(files.report, language), in_language(files.page, language)]
    for path, text in zip(paths, (markdown, page), strict=True):
        write_text(path, text)
    return paths, [files.directory / name for name in pictures]


def languages(path: Path, others: Iterable[str]) -> str:
    """Links to the report in other languages; empty without any."""
    return " · ".join(f"[{NAMES[one]}]({in_language(path, one).name})" for one in others)


def _lead(view: View) -> list[str]:
    """What the sweep is, and what is not there yet."""
    plan, points = view.sweep.plan, view.sweep.points
    found = [plain(_(plan.description))]
    missing = len(view.sweep.missing())
    failed = sum(point.status == "failed" for point in points)
    if not points:
        found.append(bold(_("No run has a record yet: there is nothing to report.")))
    elif missing or failed:
        counts = _("{done} of {total} planned runs are done, {failed} failed, {missing} without a record.")
        found.append(
            sentences(
                bold(_("This report is of a partial sweep.")),
                counts.format(
                    done=sum(point.status == "done" for point in points),
                    total=len(plan.points),
                    failed=failed,
                    missing=missing,
                ),
            )
        )
    return [*found, diverged_text(points)]


def _place(directory: Path) -> str:
    """The directory as a command would name it."""
    near = os.path.relpath(directory)
    return str(directory.resolve()) if near.startswith("..") else near
