"""Versions of an experiment side by side: what changes, by how much, what is credited, which is better."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvfp.records.config import dotted
from cvfp.records.errors import InputError
from cvfp.records.files import write_text
from cvfp.records.results import IntervalKind, PointRecord
from cvfp.report import numbers
from cvfp.report.changes import LineChange, setting_changes, shown_value
from cvfp.report.conclusions import setting_text
from cvfp.report.figures.versions import write_versions
from cvfp.report.language import _, spoken
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.report.page import environment, render_page
from cvfp.report.recommendations import recommendation_table
from cvfp.report.verdicts import alpha_verdict, crossover_text, flip_texts, probability, verdict
from cvfp.report.versions import Row, Version, labelled, read_version, rows_of
from cvfp.scaling.difference import Difference, difference
from cvfp.scaling.points import Change, Pair, mean_over
from cvfp.scaling.summary import law_of
from cvfp.scaling.table import difference_fields

# --- The tables of a comparison of versions: a row per line and pair of versions, at equal tokens.


@dataclass(frozen=True)
class Step:
    """A line of a version (`change.other`) beside the one of an earlier version that belongs to it.

    Both lines are labelled by their versions; `name` is what they have in common.
    """

    name: str
    change: LineChange

    @property
    def same_results(self) -> bool:
        """Whether all pairs have one perplexity: versions that differ in nothing that this arm reads."""
        pairs = self.change.pairs
        return bool(pairs) and all(a.val_ppl == b.val_ppl for a, b in pairs)

    @property
    def cells(self) -> list[str]:
        """The first two cells of its rows."""
        return [plain(self.name), f"{plain(self.change.reference.label)} → {plain(self.change.other.label)}"]


def alpha_table(steps: Sequence[Step]) -> str:
    """Exponents of all sizes, then of the common ones, with the change of those."""
    header = (
        *_name_headings(),
        _("α before, all sizes"),
        _("α after, all sizes"),
        _("common documents"),
        _("α before"),
        _("α after"),
        _("change"),
        _("95% interval"),
        _("percent"),
        _("verdict"),
    )
    return table(header, [_alpha_row(step) for step in steps if step.change.alpha is not None], left=2)


def ppl_table(steps: Sequence[Step]) -> str:
    """Perplexity at every common size."""
    header = (*_name_headings(), _("documents"), _("training tokens"), *_value_headings())
    rows = [row for step in steps for row in _ppl_rows(step)]
    return table(header, rows, left=2)


def share_table(steps: Sequence[Step], name: str) -> str:
    """A share of the records (accuracy, effective rank) at the largest common size; empty if none has it."""
    rows = [row for step in steps if (row := _share_row(step, name)) is not None]
    return table((*_name_headings(), _("documents"), *_value_headings()), rows, left=2) if rows else ""


def iteration_table(steps: Sequence[Step]) -> str:
    """Iterations of phase 1 at the largest common size; empty without a phase 1.

    What ended at its cap is a lower bound: there is no change, and no percentage, from one.
    """
    rows = [row for step in steps if (row := _iteration_row(step)) is not None]
    return table((*_name_headings(), _("documents"), *_value_headings()), rows, left=2) if rows else ""


def _name_headings() -> tuple[str, ...]:
    return _("line"), _("versions")


def _value_headings() -> tuple[str, ...]:
    return _("before"), _("after"), _("change"), _("95% interval"), _("percent"), _("verdict")


def _alpha_row(step: Step) -> list[str]:
    pairs, change = step.change.fitted_pairs, step.change.alpha
    before, after = (law_of(_runs(pairs, side)).alpha for side in (0, 1))
    sizes = sorted({a.num_samples for a, _b in pairs})
    return [
        *step.cells,
        numbers.exponent(step.change.reference.summary.alpha),
        numbers.exponent(step.change.other.summary.alpha),
        numbers.count_range((sizes[0], sizes[-1])),
        numbers.exponent(before),
        numbers.exponent(after),
        numbers.signed_exponent(change.value),
        numbers.signed_exponent_interval(change.interval),
        numbers.signed_percent(100 * change.value / abs(before)),
        alpha_verdict(change),
    ]


def _ppl_rows(step: Step) -> list[list[str]]:
    sizes = dict.fromkeys(a.num_samples for a, _b in step.change.pairs)
    return [
        _ppl_row(step, [pair for pair in step.change.pairs if pair[0].num_samples == size]) for size in sizes
    ]


def _ppl_row(step: Step, pairs: list[Pair]) -> list[str]:
    change = step.change.ppl_at(pairs[0][0].num_samples)
    before, after = _means(pairs, "val_ppl")
    return [
        *step.cells,
        numbers.count(pairs[0][0].num_samples),
        numbers.count(statistics.fmean(a.train_tokens for a, _b in pairs)),
        numbers.ppl(before),
        numbers.ppl(after),
        numbers.signed_decimals(after - before, 1),
        numbers.signed_percent_interval(change.interval),
        numbers.signed_percent(change.value),
        verdict(change),
    ]


def _share_row(step: Step, name: str) -> list[str] | None:
    change = step.change.field(name)
    if change is None:
        return None
    before, after = _means(step.change.top, name)
    return [
        *step.cells,
        numbers.count(step.change.num_samples),
        numbers.share(before),
        numbers.share(after),
        numbers.signed_points(change.value),
        numbers.signed_points_interval(change.interval),
        numbers.signed_percent(100 * change.value / before),
        verdict(change),
    ]


def _iteration_row(step: Step) -> list[str] | None:
    change = step.change.field("phase1_iter")
    if change is None:
        return None
    before, after = _means(step.change.top, "phase1_iter")
    lines, censored = (step.change.reference, step.change.other), _censored
    ended = [censored(line, _runs(step.change.top, side)) for side, line in enumerate(lines)]
    values = [
        f"≥ {numbers.average(value)}" if cap else numbers.average(value)
        for value, cap in zip((before, after), ended, strict=True)
    ]
    return [
        *step.cells,
        numbers.count(step.change.num_samples),
        *values,
        *_iteration_change(change, before, ended),
    ]


def _iteration_change(change: Change, before: float, ended: Sequence[bool]) -> list[str]:
    if any(ended):
        return [numbers.ABSENT, numbers.ABSENT, numbers.ABSENT, _("no verdict")]
    bounds = change.interval
    interval = numbers.ABSENT
    if bounds is not None:
        interval = numbers.between(*(numbers.signed_decimals(bound, 1) for bound in bounds))
    percent = numbers.signed_percent(100 * change.value / before)
    return [numbers.signed_decimals(change.value, 1), interval, percent, verdict(change)]


def _censored(line: Line, points: Sequence[PointRecord]) -> bool:
    """Whether a run behind these points ended phase 1 at its cap."""
    return any(
        run is not None and run.phase1_converged is False
        for point, run in zip(line.points, line.runs, strict=True)
        if point in points
    )


def _runs(pairs: Sequence[Pair], side: int) -> list[PointRecord]:
    return [run for pair in pairs for run in pair[side].runs]


def _means(pairs: Sequence[Pair], name: str) -> tuple[float, float]:
    before, after = (mean_over([pair[side] for pair in pairs], name) for side in (0, 1))
    return before, after


# --- Two lines as power laws: whose exponent is steeper, which is ahead with more data, where they cross.


Compared = tuple[Step, Difference]


def differences(steps: Sequence[Step]) -> list[Compared]:
    """The later line of every step against the earlier one, where both have a law."""
    found = []
    for step in steps:
        before, after = step.change.reference, step.change.other
        if before.law is not None and after.law is not None:
            found.append((step, difference(before.analysis, after.analysis, step.change.fitted_losses)))
    return found


def difference_table(found: Sequence[Compared]) -> str:
    """One row per two lines; empty where there are none."""
    header = (
        _("line"),
        _("versions"),
        _("difference of α"),
        _("95% interval"),
        _("verdict"),
        _("probability that the earlier is ahead"),
        _("there, in tokens"),
        _("where the laws cross"),
    )
    return table(header, [_row(*each) for each in found], left=2) if found else ""


def fragile_texts(found: Sequence[Compared]) -> list[str]:
    """Signs of differences that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for step, each in found for text in flip_texts(_name(step), each.flips)]


def _row(step: Step, found: Difference) -> list[str]:
    return [
        *step.cells,
        numbers.signed_exponent(found.exponent.value),
        numbers.signed_exponent_interval(found.exponent.interval),
        _verdict(step, found),
        numbers.ABSENT if found.first_ahead is None else probability(found.first_ahead),
        numbers.count(found.ahead_tokens),
        crossover_text(found.crossover),
    ]


def _verdict(step: Step, found: Difference) -> str:
    faster = {"first falls faster": step.change.reference, "second falls faster": step.change.other}
    if found.verdict not in faster:
        return _(found.verdict)
    return _("{line} falls faster").format(line=plain(faster[found.verdict].label))


def _name(step: Step) -> str:
    return f"{step.name}, {step.change.reference.label} → {step.change.other.label}"


# --- The whole comparison.


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
        "alphas": alpha_table(compared),
        "differences": difference_table(laws),
        "fragile": fragile_texts(laws),
        "ranks": share_table(compared, "val_er"),
        "iterations": iteration_table(compared),
        "ppl": ppl_table(compared),
        "accuracies": share_table(compared, "val_acc"),
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
    they cross, each with its interval (`table.difference_fields`); null where they have none.
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
