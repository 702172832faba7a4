"""Versions of an experiment side by side: what changes, by how much, what is credited, which is better."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cvfp.records.config import dotted
from cvfp.records.errors import InputError
from cvfp.records.files import write_text
from cvfp.records.results import IntervalKind
from cvfp.report import compare_tables as tables
from cvfp.report import numbers
from cvfp.report.changes import LineChange, setting_changes, shown_value
from cvfp.report.compare_tables import Step
from cvfp.report.conclusions import setting_text
from cvfp.report.differences import difference_table, differences, fragile_texts
from cvfp.report.environment import environment
from cvfp.report.figures.versions import write_versions
from cvfp.report.language import _, spoken
from cvfp.report.markdown import plain, table
from cvfp.report.page import render_page
from cvfp.report.recommendations import recommendation_table
from cvfp.report.versions import Row, Version, labelled, read_version, rows_of
from cvfp.scaling.group_values import difference_fields
from cvfp.scaling.pairs import Change

REPORT, PAGE = "compare.md", "compare.html"


def read_versions(sources: Sequence[str]) -> list[Version]:
    """Sweep directories and `published:NAME`s as versions, each with a name of its own.

    Raises:
        InputError: fewer than two; as `read_version`; one name for two; other data under the same settings.
    """
    if len(sources) < 2:
        raise InputError(f"compare needs two or more sweeps, got {len(sources)}")
    versions = [read_version(source) for source in sources]
    names = [version.name for version in versions]
    known: dict[str, tuple[str, str]] = {}
    for source, version in zip(sources, versions, strict=True):
        if names.count(version.name) > 1:
            raise InputError(f"{source}: two versions are called {version.name!r}; rename a directory")
        for settings, fingerprint in version.datasets.items():
            first, other = known.setdefault(settings, (fingerprint, source))
            if first != fingerprint:
                raise InputError(f"{source}: was run on other data than {other} ({settings})")
    return versions


def steps_of(rows: Sequence[Row]) -> list[Step]:
    """Every two lines that belong together, the earlier version first, labelled by their versions."""
    return [
        Step(row.name, LineChange(before, after))
        for row in rows
        for before, after in itertools.combinations(labelled(row), 2)
    ]


def comparison_text(versions: Sequence[Version], figure: str | None) -> str:
    """The comparison as Markdown, in the language of the block; `figure` is the link to its figure."""
    rows = rows_of(versions)
    steps = steps_of(rows)
    compared = _compared(steps)
    laws = differences(compared)
    changed = [row for row in rows if row.name in {step.name for step in compared}]
    content = {
        "names": ", ".join(plain(version.name) for version in versions),
        "figure": figure,
        "versions": _version_table(versions),
        "settings": _settings_table(versions, rows),
        "conclusions": [f"{plain(step.name)}: {setting_text(step.change)}" for step in compared],
        "alphas": tables.alpha_table(compared),
        "differences": difference_table(laws),
        "fragile": fragile_texts(laws),
        "ranks": tables.share_table(compared, "val_er"),
        "iterations": tables.iteration_table(compared),
        "ppl": tables.ppl_table(compared),
        "accuracies": tables.share_table(compared, "val_acc"),
        "goals": [(plain(row.name), recommendation_table(labelled(row))) for row in changed],
        "same": [" ".join(step.cells) for step in steps if step.same_results],
        "uncompared": [" ".join(step.cells) for step in steps if not step.change.pairs],
        "alone": [plain(row.name) for row in rows if len(labelled(row)) == 1],
    }
    text = environment(escape=False).get_template("compare.md.j2").render(content)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def write_comparison(versions: Sequence[Version], directory: Path) -> list[Path]:
    """Write `compare.md`, `compare.html` and the figure into a directory. Raises `CvfpError` if it cannot."""
    figure = directory / "figures" / "version_comparison.png"
    drawn = write_versions(figure, versions)
    link = f"figures/{figure.name}" if drawn else None
    markdown = comparison_text(versions, link)
    images: Mapping[str, bytes] = {link: figure.read_bytes()} if drawn else {}
    title = _("Comparison of {names}").format(names=", ".join(version.name for version in versions))
    write_text(directory / REPORT, markdown)
    write_text(directory / PAGE, render_page(markdown, title, images, {}, spoken()))
    return [directory / REPORT, directory / PAGE, *([figure] if drawn else [])]


def comparison_values(versions: Sequence[Version]) -> dict[str, Any]:
    """The numbers of the comparison as JSON values.

    `difference` of a change holds what the two fitted laws say of each other: the exponent of the later minus
    that of the earlier, the probability that the earlier has the lower PPL at 10 times the data, and where
    they cross, each with its interval (`group_values.difference_fields`); null where they have none.
    """
    steps = steps_of(rows_of(versions))
    laws = {id(step): difference_fields(found) for step, found in differences(_compared(steps))}
    return {
        "versions": [version.name for version in versions],
        "changes": [_values(step) | {"difference": laws.get(id(step))} for step in steps],
    }


def _compared(steps: Sequence[Step]) -> list[Step]:
    """Those with common results that are not all the same."""
    return [step for step in steps if step.change.pairs and not step.same_results]


def _values(step: Step) -> dict[str, Any]:
    change = step.change
    return {
        "line": step.name,
        "arm": change.other.arm,
        "before": change.reference.label,
        "after": change.other.label,
        "settings": {each.key: [each.before, each.after] for each in change.settings},
        "num_samples": change.num_samples,
        "ppl_change_percent": change.ppl and change.ppl.value,
        "ppl_change_ci95": change.ppl and change.ppl.interval,
        "ppl_interval_kind": _kind(change.ppl),
        "alpha_before": change.reference.summary.alpha,
        "alpha_after": change.other.summary.alpha,
        "alpha_change": change.alpha and change.alpha.value,
        "alpha_change_ci95": change.alpha and change.alpha.interval,
        "alpha_interval_kind": _kind(change.alpha),
    }


def _kind(change: Change | None) -> IntervalKind | None:
    return None if change is None or change.interval is None else change.kind


def _version_table(versions: Sequence[Version]) -> str:
    header = (_("version"), _("arms"), _("lines"), _("documents"), _("seeds"), _("points"))
    rows = []
    for version in versions:
        points = [point for line in version.lines for point in line.points]
        rows.append(
            [
                plain(version.name),
                plain(", ".join(dict.fromkeys(point.arm for point in points))),
                numbers.count(len(version.lines)),
                ", ".join(numbers.count(size) for size in sorted({point.num_samples for point in points})),
                ", ".join(map(str, sorted({point.seed for point in points}))),
                numbers.count(len(points)),
            ]
        )
    return table(header, rows, left=2)


def _settings_table(versions: Sequence[Version], rows: Sequence[Row]) -> str:
    """A row per line and setting in which its versions differ; empty where nothing differs."""
    body = []
    for row in rows:
        known = {line.label: line for line in labelled(row)}
        keys = dict.fromkeys(
            change.key
            for before, after in itertools.combinations(known.values(), 2)
            for change in setting_changes(before.config, after.config)
        )
        fields = {name: dotted(line.config.relevant()) for name, line in known.items()}
        for key in keys:
            values = [
                plain(shown_value(fields[v.name][key])) if v.name in fields else numbers.ABSENT
                for v in versions
            ]
            body.append([plain(row.name), plain(key), *values])
    header = (_("line"), _("setting"), *(plain(version.name) for version in versions))
    return table(header, body, left=2) if body else ""
