"""Versions of an experiment side by side: what changes, by how much, what is credited, which is better."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvfp.records.config import dotted
from cvfp.records.errors import InputError
from cvfp.records.files import write_text
from cvfp.records.results import DIVERGED, OF_ONE_DRAW, IntervalKind, PointRecord
from cvfp.records.sweep import key_of
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Link, Picture, Section, page_of, present
from cvfp.report.changes import LineChange, setting_changes, shown_value
from cvfp.report.conclusions import setting_text
from cvfp.report.figures.answer import ppl_figure, ratio_figure
from cvfp.report.figures.style import save
from cvfp.report.figures.versions import versions_figure
from cvfp.report.language import _, listed, sentences, spoken
from cvfp.report.lines import Line, diverged_text
from cvfp.report.markdown import Column, bold, bullets, plain, quote, table
from cvfp.report.page import render_page
from cvfp.report.recommendations import recommendation_table
from cvfp.report.standings import JOINT, TWO_PHASE, Headline, headline
from cvfp.report.verdicts import (
    alpha_verdict,
    change_cell,
    crossover_text,
    flip_texts,
    interval_text,
    marks_text,
    probability,
    verdict,
)
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
    def versions(self) -> str:
        """`v1 → v2`."""
        return f"{plain(self.change.reference.label)} → {plain(self.change.other.label)}"


def alpha_table(steps: Sequence[Step]) -> str:
    """Exponents of all sizes, then of the common ones, with the change of those."""
    columns = [
        *_names(),
        Column[_Exponents](_("α before, all sizes"), lambda row: numbers.exponent(row.alpha_of(0))),
        Column[_Exponents](_("α after, all sizes"), lambda row: numbers.exponent(row.alpha_of(1))),
        Column[_Exponents](_("common documents"), lambda row: numbers.count_range(row.sizes)),
        Column[_Exponents](_("α before"), lambda row: numbers.exponent(row.before)),
        Column[_Exponents](_("α after"), lambda row: numbers.exponent(row.after)),
        Column[_Exponents](_("change"), lambda row: numbers.signed_exponent(row.change.value)),
        Column[_Exponents](
            _("95% interval"), lambda row: numbers.signed_exponent_interval(row.change.interval)
        ),
        Column[_Exponents](
            _("percent"), lambda row: numbers.signed_percent(100 * row.change.value / abs(row.before))
        ),
        Column[_Exponents](_("verdict"), lambda row: alpha_verdict(row.change)),
    ]
    return table(columns, [_exponents(step) for step in steps if step.change.alpha is not None])


@dataclass(frozen=True)
class _Exponents:
    """The exponents of two lines over their common sizes, and how they differ."""

    step: Step
    sizes: tuple[int, int]
    before: float
    after: float
    change: Change

    def alpha_of(self, side: int) -> float | None:
        """The exponent over all sizes of the earlier (0) or the later (1)."""
        return (self.step.change.reference, self.step.change.other)[side].summary.alpha


def _exponents(step: Step) -> _Exponents:
    pairs, change = step.change.fitted_pairs, step.change.alpha
    assert change is not None
    before, after = (law_of(_runs(pairs, side)).alpha for side in (0, 1))
    sizes = sorted({a.num_samples for a, _b in pairs})
    return _Exponents(step, (sizes[0], sizes[-1]), before, after, change)


@dataclass(frozen=True)
class _Values:
    """A quantity of two lines at one size, as texts."""

    step: Step
    documents: int
    tokens: float
    before: str
    after: str
    change: str
    interval: str
    percent: str
    verdict: str


def ppl_table(steps: Sequence[Step]) -> str:
    """Test PPL at every common size."""
    columns = [
        *_names(),
        Column[_Values](_("documents"), lambda row: numbers.count(row.documents)),
        Column[_Values](_("training tokens"), lambda row: numbers.count(row.tokens)),
        *_of_values(),
    ]
    return table(columns, [row for step in steps for row in _ppl_values(step)])


def share_table(steps: Sequence[Step], name: str) -> str:
    """A share of the records (accuracy, effective rank) at the largest common size; empty if none has it."""
    rows = [row for step in steps if (row := _share_values(step, name)) is not None]
    return table(_at_largest(), rows)


def iteration_table(steps: Sequence[Step]) -> str:
    """Iterations of phase 1 at the largest common size; empty without a phase 1.

    What ended at its cap is a lower bound: there is no change, and no percentage, from one.
    """
    rows = [row for step in steps if (row := _iteration_values(step)) is not None]
    return table(_at_largest(), rows)


def _names() -> list[Column[Any]]:
    """The names of rows of any kind that are of a step."""
    return [
        Column[Any](_("model"), lambda row: plain(row.step.name), words=True),
        Column[Any](_("versions"), lambda row: row.step.versions, words=True),
    ]


def _of_values() -> list[Column[_Values]]:
    return [
        Column(_("before"), lambda row: row.before),
        Column(_("after"), lambda row: row.after),
        Column(_("change"), lambda row: row.change),
        Column(_("95% interval"), lambda row: row.interval),
        Column(_("percent"), lambda row: row.percent),
        Column(_("verdict"), lambda row: row.verdict),
    ]


def _at_largest() -> list[Column[_Values]]:
    documents = Column[_Values](_("documents"), lambda row: numbers.count(row.documents))
    return [*_names(), documents, *_of_values()]


def _ppl_values(step: Step) -> list[_Values]:
    sizes = dict.fromkeys(a.num_samples for a, _b in step.change.pairs)
    return [
        _ppl_at(step, [pair for pair in step.change.pairs if pair[0].num_samples == size]) for size in sizes
    ]


def _ppl_at(step: Step, pairs: list[Pair]) -> _Values:
    change = step.change.ppl_at(pairs[0][0].num_samples)
    assert change is not None
    before, after = _means(pairs, "val_ppl")
    return _Values(
        step,
        pairs[0][0].num_samples,
        statistics.fmean(a.tokens for a, _b in pairs),
        before=numbers.ppl(before),
        after=numbers.ppl(after),
        change=numbers.signed_decimals(after - before, 1),
        interval=numbers.signed_percent_interval(change.interval),
        percent=numbers.signed_percent(change.value),
        verdict=verdict(change),
    )


def _share_values(step: Step, name: str) -> _Values | None:
    change = step.change.field(name)
    if change is None:
        return None
    before, after = _means(step.change.top, name)
    return _Values(
        step,
        step.change.top[0][0].num_samples,
        0.0,
        before=numbers.share(before),
        after=numbers.share(after),
        change=numbers.signed_points(change.value),
        interval=numbers.signed_points_interval(change.interval),
        percent=numbers.signed_percent(100 * change.value / before),
        verdict=verdict(change),
    )


def _iteration_values(step: Step) -> _Values | None:
    change = step.change.field("phase1_iter")
    if change is None:
        return None
    before, after = _means(step.change.top, "phase1_iter")
    lines = (step.change.reference, step.change.other)
    ended = [_censored(line, _runs(step.change.top, side)) for side, line in enumerate(lines)]
    shown = [
        f"≥ {numbers.average(value)}" if cap else numbers.average(value)
        for value, cap in zip((before, after), ended, strict=True)
    ]
    told = not any(ended)
    bounds = change.interval if told else None
    interval = numbers.ABSENT
    if bounds is not None:
        interval = numbers.between(*(numbers.signed_decimals(bound, 1) for bound in bounds))
    return _Values(
        step,
        step.change.top[0][0].num_samples,
        0.0,
        before=shown[0],
        after=shown[1],
        change=numbers.signed_decimals(change.value, 1) if told else numbers.ABSENT,
        interval=interval,
        percent=numbers.signed_percent(100 * change.value / before) if told else numbers.ABSENT,
        verdict=verdict(change) if told else _("no verdict"),
    )


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
    assert before is not None and after is not None
    return before, after


# --- Two lines as power laws: whose exponent is steeper, which is ahead with more data, where they cross.


@dataclass(frozen=True)
class Compared:
    """What the laws of the two lines of a step say of each other."""

    step: Step
    difference: Difference


def differences(steps: Sequence[Step]) -> list[Compared]:
    """The later line of every step against the earlier one, where both have a law."""
    found = []
    for step in steps:
        before, after = step.change.reference, step.change.other
        if before.law is not None and after.law is not None:
            one = difference(before.analysis, after.analysis, step.change.fitted_losses)
            found.append(Compared(step, one))
    return found


def difference_table(found: Sequence[Compared]) -> str:
    """A row per two lines; empty where there are none."""
    columns = [
        *_names(),
        Column[Compared](
            _("difference of α"), lambda row: numbers.signed_exponent(row.difference.exponent.value)
        ),
        Column[Compared](
            _("95% interval"), lambda row: numbers.signed_exponent_interval(row.difference.exponent.interval)
        ),
        Column[Compared](_("verdict"), lambda row: _verdict(row.step, row.difference)),
        Column[Compared](_("probability that the earlier is ahead"), _ahead),
        Column[Compared](_("there, in tokens"), lambda row: numbers.count(row.difference.ahead_tokens)),
        Column[Compared](
            _("where the laws cross"),
            lambda row: crossover_text(row.difference.crossover, row.difference.exponent.kind),
        ),
    ]
    return table(columns, found)


def fragile_texts(found: Sequence[Compared]) -> list[str]:
    """Signs of differences that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for one in found for text in flip_texts(_name(one.step), one.difference.flips)]


def _ahead(row: Compared) -> str:
    ahead = row.difference.first_ahead
    if ahead is None:
        return numbers.ABSENT
    if row.difference.exponent.kind in OF_ONE_DRAW:
        return _("{change} (1 seed)").format(change=probability(ahead))
    return probability(ahead)


def _verdict(step: Step, found: Difference) -> str:
    faster = {"first falls faster": step.change.reference, "second falls faster": step.change.other}
    if found.verdict == "not distinguishable":
        return _("no clear difference")
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


def comparison_page(versions: Sequence[Version], link: Link) -> tuple[str, list[Picture]]:
    """The comparison as Markdown, in the language of the block, and its pictures."""
    rows = rows_of(versions)
    sections = [
        section
        for section in (
            _answer(versions, rows),
            _differing(versions, rows),
            _exponents_section(rows),
            _scores(rows),
            _other(rows),
        )
        if section is not None
    ]
    pictures = [picture for section in sections for picture in section.pictures()]
    return page_of(comparison_title(versions), sections, link), pictures


def comparison_answer(versions: Sequence[Version]) -> list[str]:
    """What a terminal shows of it: which version is best, and every line's versions side by side."""
    rows = rows_of(versions)
    main = _main(rows)
    return [
        *([] if main is None else [_best_version(main)]),
        ranking_table(versions, rows),
        *_diverged(versions),
    ]


def comparison_title(versions: Sequence[Version]) -> str:
    return _("Comparison of {names}").format(names=", ".join(plain(version.name) for version in versions))


def write_comparison(versions: Sequence[Version], directory: Path) -> list[Path]:
    """Write `compare.md`, `compare.html` and the figures into a directory. Raises `CvfpError` if it
    cannot."""
    markdown, pictures = comparison_page(versions, lambda picture: f"figures/{picture.file}")
    paths = {f"figures/{picture.file}": picture for picture in pictures}
    for name, picture in paths.items():
        save(picture.figure, directory / name)
    images = {name: (directory / name).read_bytes() for name in paths}
    write_text(directory / REPORT, markdown)
    write_text(directory / PAGE, render_page(markdown, comparison_title(versions), images, {}, spoken()))
    return [directory / REPORT, directory / PAGE, *(directory / name for name in paths)]


# --- The sections of a comparison.


def _answer(versions: Sequence[Version], rows: Sequence[Row]) -> Section:
    steps = steps_of(rows)
    compared = _compared(steps)
    main = _main(rows)
    texts = [_best_version(main)] if main is not None else []
    if not compared:
        texts = [
            _("All common results are the same: nothing changes.")
            if any(step.same_results for step in steps)
            else _(
                "No two of these lines have been run on the same tokens and scored on the same text: nothing "
                "can be compared."
            )
        ]
    pictures = _pictures(main) if compared and main is not None else ()
    return Section(
        _("Answer"),
        present(
            [
                quote(*texts),
                pictures,
                ranking_table(versions, rows),
                bullets(_diverged(versions)),
                _whole_picture(versions) if compared else None,
                Fold(
                    _("Every change in words"),
                    (
                        bullets(
                            _(": ").join([plain(step.name), setting_text(step.change)]) for step in compared
                        ),
                    ),
                ),
                _(
                    "Versions are compared at equal tokens only: the same number of documents, seed and "
                    "training tokens, scored on the same text. Differences are paired; a verdict is given "
                    "only where their 95% interval over several seeds excludes 0; where the losses of the "
                    "test documents were kept, it is over them too. With one seed there is none: its "
                    "interval is over test documents only, or over sizes, the deviation from a straight "
                    "line. The intervals are not corrected for their number."
                ),
            ]
        ),
    )


def _diverged(versions: Sequence[Version]) -> list[str]:
    """What is left out of the comparison since it diverged, by version."""
    found = [(plain(version.name), diverged_text(version.points)) for version in versions]
    return [_(": ").join(each) for each in found if each[1]]


def _main(rows: Sequence[Row]) -> Row | None:
    """The row that the answer is about: the first whose versions have something in common."""
    known = [row for row in rows if any(step.change.pairs for step in steps_of([row]))]
    arms = [row for row in known if row.arm in (JOINT, TWO_PHASE)]
    return next(iter(arms or known), None)


def _best_version(row: Row) -> str:
    """Which version is best at the largest size that all have, and what the first is against it."""
    top = headline(labelled(row))
    if top is None:
        return _("{model}: there is no size that all versions have.").format(model=plain(row.name))
    best, first = top.standings[0], top.standings[-1]
    text = _("{model}: {version} has the lowest test PPL at {documents} documents, {ppl}.")
    found = [
        bold(
            text.format(
                model=plain(row.name),
                version=plain(best.line.label),
                documents=numbers.count(top.num_samples),
                ppl=numbers.ppl(best.ppl),
            )
        )
    ]
    change = LineChange(best.line, first.line).ppl_at(top.num_samples)
    if change is not None and first is not best:
        text = _("{version}, the highest, is at {change} against it.")
        found.append(text.format(version=plain(first.line.label), change=interval_text(change)))
        if change.distinguishable is False:
            found.append(_("That is no clear difference."))
        if change.one_draw:
            found.append(bold(_("1 seed: indicative only.")))
    return sentences(*found)


def _pictures(main: Row) -> tuple[Picture, ...]:
    """Test PPL of the versions of one line, and against the first of them."""
    found, lines = [], labelled(main)
    figure = ppl_figure(lines)
    if figure is not None:
        text = _("Test PPL of every version of {model} against training tokens, both axes logarithmic")
        found.append(Picture("version_ppl.png", text.format(model=plain(main.name)), figure))
    changes = [change for line in lines[1:] if (change := LineChange(lines[0], line)).pairs]
    figure = ratio_figure(lines[0], changes, lines)
    if figure is not None:
        text = _("PPL of every version against {model} in percent, size by size, with 95% intervals")
        found.append(Picture("version_ratio.png", text.format(model=plain(lines[0].label)), figure))
    return tuple(found)


def _whole_picture(versions: Sequence[Version]) -> Picture | None:
    figure = versions_figure(versions)
    text = _("Exponent, effective rank, iterations, perplexity and accuracy of the versions side by side")
    return None if figure is None else Picture("version_comparison.png", text, figure)


def ranking_table(versions: Sequence[Version], rows: Sequence[Row]) -> str:
    """A row per line that several versions have: the first's PPL at the largest size of all, and the others
    against it."""
    known = [(row, top) for row in rows if (top := headline(labelled(row))) is not None]
    shown = [(row, top) for row, top in known if len(top.standings) > 1]

    def cell(one: tuple[Row, Headline], version: Version) -> str:
        row, top = one
        lines = {standing.line.label: standing for standing in top.standings}
        first = next(line for line in labelled(row) if line.label in lines)
        if version.name not in lines:
            return numbers.ABSENT
        if version.name == first.label:
            return bold(numbers.ppl(lines[first.label].ppl))
        return change_cell(LineChange(first, lines[version.name].line).ppl_at(top.num_samples))

    columns = [
        Column[tuple[Row, Headline]](_("model"), lambda one: plain(one[0].name), words=True),
        Column[tuple[Row, Headline]](_("documents"), lambda one: numbers.count(one[1].num_samples)),
        *(
            Column[tuple[Row, Headline]](plain(version.name), lambda one, version=version: cell(one, version))
            for version in versions
        ),
    ]
    note = _(
        "Test PPL of the first version of each, means over seeds; others: PPL(version) / PPL(first) − 1, "
        "paired; {marks}."
    ).format(marks=marks_text())
    found = table(columns, shown)
    return f"{found}\n\n{note}" if found else ""


def _differing(versions: Sequence[Version], rows: Sequence[Row]) -> Section:
    return Section(
        _("Settings that differ"), present([_version_table(versions), _settings_table(versions, rows)])
    )


def _exponents_section(rows: Sequence[Row]) -> Section | None:
    compared = _compared(steps_of(rows))
    if not compared:
        return None
    laws = differences(compared)
    return Section(
        _("Exponent α"),
        present(
            [
                alpha_table(compared),
                _(
                    "The change is of the exponents at the common sizes, where both were run; above 0 the "
                    "later version falls less steeply. Percentages are of |α before|."
                ),
                difference_table(laws),
                _(
                    "The two fitted power laws against each other, paired where they share sizes, seeds and "
                    "tokens: the exponent of the later minus that of the earlier (above 0 the earlier falls "
                    "faster), which has the lower PPL at 10 times the largest size, and where they are "
                    "equal. One seed knows only what other test documents would give, or the deviation from "
                    "straight lines, and tells no two lines apart."
                )
                if laws
                else "",
                bullets(fragile_texts(laws)),
            ]
        ),
    )


def _scores(rows: Sequence[Row]) -> Section | None:
    compared = _compared(steps_of(rows))
    if not compared:
        return None
    names = {step.name for step in compared}
    goals = [(plain(row.name), recommendation_table(labelled(row))) for row in rows if row.name in names]
    iterations = iteration_table(compared)
    return Section(
        _("Scores"),
        present(
            [
                "### " + _("Test PPL"),
                ppl_table(compared),
                Fold(_("Accuracy"), (share_table(compared, "val_acc"),)),
                Fold(_("Effective rank"), (share_table(compared, "val_er"),)),
                Fold(
                    _("Iterations of phase 1"),
                    (
                        iterations,
                        _(
                            "≥ N: a run ended at its cap of N before it had converged. That is a lower "
                            "bound, so there is no change and no percentage from it."
                        ),
                    )
                    if iterations
                    else (),
                ),
                Fold(
                    _("Best version by goal"),
                    tuple(text for name, found in goals if found for text in (f"### {name}", found)),
                ),
            ]
        ),
    )


def _other(rows: Sequence[Row]) -> Section | None:
    """What has the same results in all versions, no counterpart, or nothing in common with it."""
    steps = steps_of(rows)
    same = [f"{plain(step.name)} {step.versions}" for step in steps if step.same_results]
    apart = [f"{plain(step.name)} {step.versions}" for step in steps if not step.change.pairs]
    alone = [plain(row.name) for row in rows if len(labelled(row)) == 1]
    if not (same or apart or alone):
        return None
    return Section(
        _("Not compared"),
        present(
            [
                _("The same results, since the versions differ in nothing that these models read:")
                if same
                else "",
                bullets(same),
                _("Without a common size on equal tokens, or scored on other texts:") if apart else "",
                bullets(apart),
                _("In one version only: {names}.").format(names=listed(alone)) if alone else "",
            ]
        ),
    )


POINT = ("arm", "config_name", "num_samples", "seed")
"""The parts of a point's key."""


def comparison_values(versions: Sequence[Version]) -> dict[str, Any]:
    """The numbers of the comparison as JSON values.

    `difference` of a change holds what the two fitted laws say of each other: the exponent of the later minus
    that of the earlier, the probability that the earlier has the lower PPL at 10 times the data, and where
    they cross, each with its interval (`table.difference_fields`); null where they have none. `diverged` are
    the runs of each version that are left out, since they diverged, with their loss.
    """
    steps = steps_of(rows_of(versions))
    laws = {id(one.step): difference_fields(one.difference) for one in differences(_compared(steps))}
    return {
        "versions": [version.name for version in versions],
        "diverged": {
            version.name: [
                {**dict(zip(POINT, key_of(point), strict=True)), "val_nats": point.nats}
                for point in version.points
                if point.status == DIVERGED
            ]
            for version in versions
        },
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
    def points(version: Version) -> list[PointRecord]:
        return [point for line in version.lines for point in line.points]

    columns = [
        Column[Version](_("version"), lambda one: plain(one.name), words=True),
        Column[Version](
            _("models"), lambda one: plain(", ".join(dict.fromkeys(p.arm for p in points(one)))), words=True
        ),
        Column[Version](_("curves"), lambda one: numbers.count(len(one.lines))),
        Column[Version](
            _("documents"),
            lambda one: ", ".join(
                numbers.count(size) for size in sorted({p.num_samples for p in points(one)})
            ),
        ),
        Column[Version](_("seeds"), lambda one: ", ".join(map(str, sorted({p.seed for p in points(one)})))),
        Column[Version](_("runs"), lambda one: numbers.count(len(points(one)))),
    ]
    return table(columns, versions)


@dataclass(frozen=True)
class _Setting:
    """A setting in which the versions of a line differ, and its value in each that has the line."""

    name: str
    key: str
    values: dict[str, str]


def _settings_table(versions: Sequence[Version], rows: Sequence[Row]) -> str:
    """A row per line and setting in which its versions differ; empty where nothing differs."""
    columns = [
        Column[_Setting](_("model"), lambda one: plain(one.name), words=True),
        Column[_Setting](_("setting"), lambda one: plain(one.key), words=True),
        *(
            Column[_Setting](
                plain(version.name), lambda one, name=version.name: one.values.get(name, numbers.ABSENT)
            )
            for version in versions
        ),
    ]
    return table(columns, [one for row in rows for one in _settings_of(row)])


def _settings_of(row: Row) -> list[_Setting]:
    known = {line.label: line for line in labelled(row)}
    keys = dict.fromkeys(
        change.key
        for before, after in itertools.combinations(known.values(), 2)
        for change in setting_changes(before.config, after.config)
    )
    fields = {name: dotted(line.config.relevant()) for name, line in known.items()}
    return [
        _Setting(row.name, key, {name: plain(shown_value(values[key])) for name, values in fields.items()})
        for key in keys
    ]
