"""The published tables beside what their own perplexities give; numbers that do not follow are marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cvfp.records.published import load_published, published_experiment
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.markdown import plain, table
from cvfp.report.published_defects import defects
from cvfp.report.rounding import Printed, Range, reachable
from cvfp.report.versions import published_version
from cvfp.scaling.power_law import PowerLaw, fit_power_law
from cvfp.scaling.windows import change_interval, progression, sliding_windows

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
    return f"# {title}\n\n{method} {mark.format(mark=MARK)}"


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
    text = table((_("config"), *_law_header()), rows)
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
    text = table((_("documents"), *_law_header()), rows)
    sentence = marker.sentence(_("α, A and R² of the windows"), _(PERPLEXITIES))
    return _section(_("Sliding windows"), text, f"{sentence} {_change(experiment, points, members)}")


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
    return _section(_("Extrapolations"), table(header, rows), f"{sentence} {note}")


def _extrapolation_row(
    one: dict[str, Any], row: dict[str, Any], points: list[dict[str, Any]], marker: _Marker
) -> list[str]:
    tokens, law = one["tokens"], _fit(points)
    alpha, A = Printed(row["alpha"], ALPHA_UNIT), _printed_A(row)
    from_law = reachable(lambda alpha, A: A * tokens**alpha, (alpha, A))
    from_points = reachable(
        lambda *ppl: float(_fit(points, ppl).predict(tokens)), [_ppl(point) for point in points]
    )
    low, high = law.prediction_interval(tokens)
    return [
        plain(one["config_name"]),
        numbers.short_count(tokens),
        marker.cell(Printed(one["ppl"], FORECAST_UNIT), numbers.count, from_law, from_points),
        numbers.ppl(A.value * tokens**alpha.value),
        numbers.ppl(float(law.predict(tokens))),
        numbers.ppl_interval(float(low), float(high)),
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
