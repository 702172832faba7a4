"""The published tables beside what their own perplexities give; numbers that do not follow are marked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cvfp.records.published import load_published, published_experiment
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import bullets, plain, text_table
from cvfp.report.verdicts import alpha_text
from cvfp.report.versions import Row, Version, labelled, published_version, rows_of
from cvfp.scaling.local_exponent import change_interval, progression, sliding_windows
from cvfp.scaling.points import ppl_change
from cvfp.scaling.power_law import PowerLaw, fit_power_law
from cvfp.scaling.summary import law_of

# --- Does a printed number follow from other printed numbers, given that all of them are rounded?


Range = tuple[float, float]


@dataclass(frozen=True)
class Printed:
    """A number as printed: the true one is within half a `unit` of the last digit."""

    value: int | float
    unit: int | float

    @classmethod
    def significant(cls, value: int | float, digits: int) -> Printed:
        """A positive number printed with so many significant digits."""
        return cls(value, 10.0 ** (math.floor(math.log10(value)) - digits + 1))

    @property
    def bounds(self) -> Range:
        return self.value - self.unit / 2, self.value + self.unit / 2

    def follows(self, *ranges: Range) -> bool:
        """Whether one of the ranges of possible values touches the numbers that are printed like this one."""
        low, high = self.bounds
        slack = 1e-9 * max(abs(low), abs(high))  # float rounding at the ends
        return any(low - slack <= top and bottom <= high + slack for bottom, top in ranges)


def reachable(statistic: Callable[..., float], inputs: Sequence[Printed]) -> Range:
    """Smallest and largest value of `statistic` over the corners of the box of possible inputs.

    Exact for what is monotonic in every input (alpha and ln A of a power law are, in ln PPL); for others it
    errs by the square of the relative rounding, far below the units that are printed. The 2^n corners are
    all visited: meant for tables of a few numbers.
    """
    values = [statistic(*corner) for corner in itertools.product(*(number.bounds for number in inputs))]
    return min(values), max(values)


# --- What the published tables do not support, shown with the figures that they do support.
#
# Every figure is computed from the printed perplexities, tokens and hyperparameters alone.


Section = tuple[str, str, str]
"""Title, table, and what it shows in words."""


def defects(versions: Sequence[Version]) -> str:
    """Sections of Markdown, those that the given versions have anything to say to."""
    found = [
        *([] if len(versions) < 2 else [_unequal_data(versions), _many_settings(versions)]),
        _undertrained(versions),
        _unsupported_rankings(versions),
        _capped_iterations(versions),
        _parameter_efficiency(versions),
    ]
    parts = [f"### {title}\n\n{body}\n\n{text}" for title, body, text in found if body]
    title = _("What the tables do not support")
    return "\n\n".join([f"## {title}", *parts, _unseen()])


def _unequal_data(versions: Sequence[Version]) -> Section:
    """Best perplexities of versions with other largest sizes, beside the change at equal tokens."""
    header = (
        _("model"),
        _("versions"),
        _("best PPL before"),
        _("at tokens"),
        _("best PPL after"),
        _("at tokens"),
        _("as compared"),
        _("at equal tokens"),
        _("law of the earlier at the later's tokens"),
    )
    rows = [
        row
        for line_row in rows_of(versions)
        for pair in itertools.combinations(labelled(line_row), 2)
        if (row := _unequal_row(line_row, LineChange(*pair))) is not None
    ]
    text = _(
        "Best perplexities at different sizes mix what more data does with what the version does. The change "
        "at equal tokens is given for every common size, smallest first."
    )
    return _("Versions compared at unequal data"), text_table(header, rows, left=2), text


def _unequal_row(row: Row, change: LineChange) -> list[str] | None:
    before, after = (
        min(line.scored, key=lambda point: point.ppl) for line in (change.reference, change.other)
    )
    if before.train_tokens == after.train_tokens:
        return None
    equal = [numbers.signed_percent(ppl_change([pair]).value) for pair in change.pairs]
    law = change.reference.law
    return [
        plain(row.name),
        f"{plain(change.reference.label)} → {plain(change.other.label)}",
        numbers.ppl(before.val_ppl),
        numbers.count(before.train_tokens),
        numbers.ppl(after.val_ppl),
        numbers.count(after.train_tokens),
        numbers.signed_percent(100 * (after.ppl / before.ppl - 1)),
        ", ".join(equal),
        numbers.ABSENT if law is None else numbers.ppl(float(law.predict(after.tokens))),
    ]


def _many_settings(versions: Sequence[Version]) -> Section:
    """Versions that differ in several settings, of which none can be credited."""
    steps: dict[tuple[str, str], list[str]] = {}
    for row in rows_of(versions):
        for before, after in itertools.combinations(labelled(row), 2):
            names = [str(setting) for setting in LineChange(before, after).settings]
            steps.setdefault((before.label, after.label), names)
    rows = [
        [f"{plain(before)} → {plain(after)}", numbers.count(len(names)), plain(", ".join(names))]
        for (before, after), names in steps.items()
        if len(names) > 1
    ]
    header = (_("versions"), _("settings"), _("what differs"))
    text = _("Sentences that give one of these settings the credit for a change do not follow from the runs.")
    return _("Several settings changed at once"), text_table(header, rows, left=3), text


def _undertrained(versions: Sequence[Version]) -> Section:
    """The exponent with and without the smallest size, and how long that one could train at most."""
    header = (
        _("version"),
        _("model"),
        _("smallest size"),
        _("steps at most"),
        _("train PPL there"),
        _("train PPL at the largest"),
        _("α"),
        _("α without it"),
        _("change"),
    )
    rows = [_undertrained_row(version, line) for version in versions for line in version.lines]
    text = _(
        "Steps at most: the cap on epochs times the batches of an epoch. Where a version with a higher cap "
        "has a much lower train PPL at the same smallest size, the other was stopped before it was trained "
        "to the end, and that point makes its line look steeper."
    )
    return _("Small points that were not trained to the end"), text_table(header, rows, left=2), text


def _undertrained_row(version: Version, line: Line) -> list[str]:
    first, *rest = sorted(line.scored, key=lambda point: point.num_samples)
    config = line.config.phase2
    steps = config.epochs * math.ceil((first.tokens - 1) / config.batch_size)
    alpha, without = line.summary.alpha, law_of(rest).alpha
    assert alpha is not None  # every published line has a law
    return [
        plain(version.name),
        plain(line.config_name),
        numbers.count(first.num_samples),
        numbers.count(steps),
        numbers.ppl(first.train_ppl),
        numbers.ppl(rest[-1].train_ppl),
        numbers.exponent(alpha),
        numbers.exponent(without),
        numbers.signed_exponent(without - alpha),
    ]


def _unsupported_rankings(versions: Sequence[Version]) -> Section:
    """Differences of exponents within a version, paired at equal tokens."""
    rows = [
        [plain(version.name), f"{plain(b.label)} − {plain(a.label)}", alpha_text(LineChange(a, b).alpha)]
        for version in versions
        for a, b in itertools.combinations(version.lines, 2)
    ]
    header = (_("version"), _("difference of α"), _("value"))
    text = _(
        "One seed: the interval is over sizes, the deviation of the ratio of two lines from a straight line. "
        "What has no clear difference cannot be ranked."
    )
    return _("Rankings by α"), text_table(header, rows, left=3), text


def _capped_iterations(versions: Sequence[Version]) -> Section:
    """Lines whose phase 1 ended at its cap: no percentage can be taken from them."""
    rows = [
        [plain(version.name), plain(line.config_name), f"≥ {line.points[0].phase1_iter}"]
        for version in versions
        for line in version.lines
        if any(run is not None and run.phase1_converged is False for run in line.runs)
    ]
    text = _(
        "Phase 1 ended at its cap, not because it had converged: the number of iterations is a lower bound, "
        "and so is every saving in percent that is computed from it."
    )
    header = (_("version"), _("model"), _("iterations"))
    return _("Iterations that are a cap"), text_table(header, rows, left=2), text


def _parameter_efficiency(versions: Sequence[Version]) -> Section:
    """PPL per million parameters, with the reason why it says nothing; effective dimensions."""
    header = (
        _("version"),
        _("model"),
        _("context-block params"),
        _("best PPL"),
        _("PPL per million params"),
        _("test ER"),
        _("effective dimensions"),
    )
    rows = [_efficiency_row(version, line) for version in versions for line in version.lines]
    text = _(
        "PPL per million parameters falls as parameters grow whatever a model does (a lower figure would "
        "even be the better one): it says nothing about efficiency. Parameters are exact counts."
    )
    return _("PPL per million parameters"), text_table(header, rows, left=2), text


def _efficiency_row(version: Version, line: Line) -> list[str]:
    row = line.summary
    assert row.best_ppl is not None and row.best_val_er is not None  # which are published of every line
    rank = row.best_val_er * row.width
    return [
        plain(version.name),
        plain(line.config_name),
        numbers.count(row.block_params),
        numbers.ppl(row.best_ppl),
        numbers.decimals(row.best_ppl / (row.block_params / 1e6), 1),
        numbers.share(row.best_val_er),
        f"{rank:.0f}/{row.width}",
    ]


def _unseen() -> str:
    title = _("What tables cannot show")
    items = (
        _("The epoch was chosen on the validation text that is reported: its perplexities are flattered."),
        _("The batch size followed from the free memory of the card: another card, another perplexity."),
        _("Position 0 of every sweep of phase 1 received the last token's context: causality leaked."),
        _("Beyond 1,000 training conversations the validation conversations are among them."),
        _("The causes named for the flattening exponent were not tested: they are hypotheses."),
    )
    return f"### {title}\n\n{bullets(items)}"


# --- The tables, each number marked that does not follow.


MARK = " ✗"
PPL_UNIT, ALPHA_UNIT, R_SQUARED_UNIT, FORECAST_UNIT, PERCENT_UNIT = 0.1, 1e-4, 1e-3, 1, 0.1
A_DIGITS = 3
PERPLEXITIES = N_("the printed perplexities")


def published_report(versions: Sequence[str] = ()) -> str:
    """Markdown: printed beside recomputed, for the named versions (none named: all of them), and what of
    the published conclusions the tables do not support.

    Raises:
        InputError: a name that is not a published version; lists those there are.
    """
    chosen = list(dict.fromkeys(versions if len(versions) > 0 else load_published()["experiments"]))
    parts = [_version(name, published_experiment(name)) for name in chosen]
    shown = defects([published_version(name) for name in chosen])
    return "\n\n".join([_introduction(), *parts, shown]) + "\n"


def _introduction() -> str:
    title = _("Published tables, recomputed")
    method = _("α, A and R² are least squares of ln PPL on ln tokens over the printed perplexities.")
    mark = _("A printed number is marked{mark} only if no inputs within half a printed unit give it.")
    return f"# {title}\n\n{sentences(method, mark.format(mark=MARK))}"


def _version(name: str, experiment: dict[str, Any]) -> str:
    parts = [f"## {plain(name)}", _laws(experiment)]
    if "windows" in experiment:
        parts.append(_windows(experiment))
    if "published_extrapolation" in experiment:
        parts.append(_extrapolations(experiment))
    return "\n\n".join(parts)


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"### {title}", *parts])


class _Marker:
    """Writes printed numbers, marks those that do not follow, and counts both."""

    def __init__(self) -> None:
        self.seen = self.wrong = 0

    def cell(self, printed: Printed, shown: Callable[[int | float], str], *ranges: Range) -> str:
        self.seen += 1
        if printed.follows(*ranges):
            return shown(printed.value)
        self.wrong += 1
        return shown(printed.value) + MARK

    def sentence(self, what: str, source: str) -> str:
        if self.wrong == 0:
            return _("All printed {what} follow from {source}.").format(what=what, source=source)
        text = _("{wrong} of {seen} printed {what} do not follow from {source}.")
        return text.format(wrong=self.wrong, seen=self.seen, what=what, source=source)


def _law_header() -> tuple[str, ...]:
    return (
        _("α printed"),
        _("α"),
        _("95% interval of α"),
        _("A printed"),
        _("A"),
        _("R² printed"),
        _("R²"),
    )


def _laws(experiment: dict[str, Any]) -> str:
    marker = _Marker()
    rows = [
        [plain(row["config_name"]), *_law_cells(row, _points(experiment, row["config_name"]), marker)]
        for row in experiment["summary"]
    ]
    text = text_table((_("config"), *_law_header()), rows)
    sentence = marker.sentence(_("α, A and R²"), _(PERPLEXITIES))
    return _section(_("Power laws"), text, sentence)


def _law_cells(row: dict[str, Any], points: list[dict[str, Any]], marker: _Marker) -> list[str]:
    law = _fit(points)
    return [
        marker.cell(Printed(row["alpha"], ALPHA_UNIT), numbers.exponent, _of_law(points, "alpha")),
        numbers.exponent(law.alpha),
        numbers.exponent_interval(law.alpha_ci95),
        marker.cell(_printed_A(row), numbers.count, _of_law(points, "A")),
        numbers.count(law.A),
        marker.cell(Printed(row["r_squared"], R_SQUARED_UNIT), _three_decimals, _of_law(points, "r_squared")),
        numbers.r_squared(law.r_squared),
    ]


def _windows(experiment: dict[str, Any]) -> str:
    marker, first = _Marker(), experiment["summary"][0]
    points = _points(experiment, first["config_name"])
    rows, members = [], []
    for window in experiment["windows"]:
        low, high = window["sample_range"]
        inside = [point for point in points if low <= point["num_samples"] <= high]
        members.append(inside)
        rows.append([numbers.count_range((low, high)), *_law_cells(window, inside, marker)])
    text = text_table((_("documents"), *_law_header()), rows)
    sentence = marker.sentence(_("α, A and R² of the windows"), _(PERPLEXITIES))
    return _section(_("Sliding windows"), text, sentences(sentence, _change(experiment, points, members)))


def _change(
    experiment: dict[str, Any], points: list[dict[str, Any]], members: list[list[dict[str, Any]]]
) -> str:
    """The printed change of the exponent beside the recomputed one, in a sentence."""
    printed, marker = experiment["published_alpha_change"], _Marker()
    alphas = [Printed(window["alpha"], ALPHA_UNIT) for window in experiment["windows"]]
    change = progression([_fit(points).alpha for points in members])
    delta = marker.cell(
        Printed(printed["delta"], ALPHA_UNIT),
        numbers.signed_exponent,
        reachable(lambda *a: progression(a).alpha_change, alphas),
    )
    percent = marker.cell(
        Printed(printed["percent"], PERCENT_UNIT),
        numbers.signed_percent,
        reachable(lambda *a: progression(a).alpha_change_percent, alphas),
    )
    return _(
        "Change of α printed {delta} ({percent}, {trend}), recomputed {new_delta} "
        "({new_percent}, {new_trend}), {interval}."
    ).format(
        delta=delta,
        percent=percent,
        trend=plain(_(printed["trend"])),
        new_delta=numbers.signed_exponent(change.alpha_change),
        new_percent=numbers.signed_percent(change.alpha_change_percent),
        new_trend=_(change.trend),
        interval=_change_interval(points, window_size=len(members[0])),
    )


def _change_interval(points: list[dict[str, Any]], window_size: int) -> str:
    tokens, ppl = [point["train_tokens"] for point in points], [point["val_ppl"] for point in points]
    interval = change_interval(tokens, ppl, tokens, sliding_windows(tokens, ppl, window_size))
    if interval is None:
        return _("without an interval: too few points")
    text = _("95% interval {interval}, which excludes 0")
    if interval[0] <= 0 <= interval[1]:
        text = _("95% interval {interval}, which covers 0")
    return text.format(interval=numbers.signed_exponent_interval(interval))


def _extrapolations(experiment: dict[str, Any]) -> str:
    marker = _Marker()
    summary = {row["config_name"]: row for row in experiment["summary"]}
    rows = [
        _extrapolation_row(one, summary[one["config_name"]], _points(experiment, one["config_name"]), marker)
        for one in experiment["published_extrapolation"]
    ]
    header = (
        _("config"),
        _("tokens"),
        _("PPL printed"),
        _("from printed α and A"),
        _("from the perplexities"),
        _("95% interval"),
    )
    sentence = marker.sentence(_("predictions"), _("the printed α and A or the printed perplexities"))
    note = _(
        "The interval is for one new run: deviation from a straight line over sizes, not run-to-run noise."
    )
    return _section(_("Extrapolations"), text_table(header, rows), sentences(sentence, note))


def _extrapolation_row(
    one: dict[str, Any], row: dict[str, Any], points: list[dict[str, Any]], marker: _Marker
) -> list[str]:
    tokens, law = one["tokens"], _fit(points)
    alpha, A = Printed(row["alpha"], ALPHA_UNIT), _printed_A(row)
    from_law = reachable(lambda alpha, A: A * tokens**alpha, (alpha, A))
    from_points = reachable(
        lambda *ppl: float(_fit(points, ppl).predict(tokens)), [_ppl(point) for point in points]
    )
    interval = law.prediction_interval(tokens)
    assert interval is not None  # of more than two points
    return [
        plain(one["config_name"]),
        numbers.short_count(tokens),
        marker.cell(Printed(one["ppl"], FORECAST_UNIT), numbers.count, from_law, from_points),
        numbers.ppl(A.value * tokens**alpha.value),
        numbers.ppl(float(law.predict(tokens))),
        numbers.ppl_interval(*map(float, interval)),
    ]


def _points(experiment: dict[str, Any], config_name: str) -> list[dict[str, Any]]:
    return [point for point in experiment["results"] if point["config_name"] == config_name]


def _ppl(point: dict[str, Any]) -> Printed:
    return Printed(point["val_ppl"], PPL_UNIT)


def _fit(points: list[dict[str, Any]], ppl: Sequence[float] | None = None) -> PowerLaw:
    """The law of the points, with other perplexities in place of the printed ones where given."""
    values = [point["val_ppl"] for point in points] if ppl is None else ppl
    return fit_power_law([point["train_tokens"] for point in points], values)


def _of_law(points: list[dict[str, Any]], name: str) -> Range:
    """Values that a field of the law can have, given the rounding of the perplexities."""
    return reachable(lambda *ppl: getattr(_fit(points, ppl), name), [_ppl(point) for point in points])


def _printed_A(row: dict[str, Any]) -> Printed:
    """A in full where the source prints it somewhere, else with three significant digits."""
    return Printed(row["A_full"], 1) if "A_full" in row else Printed.significant(row["A"], A_DIGITS)


def _three_decimals(value: int | float) -> str:
    return numbers.decimals(value, 3)
