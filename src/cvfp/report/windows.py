"""Sliding windows: the exponent of every few consecutive sizes, and how it changes."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import WindowRecord
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.pairs import Change

TRENDS = (N_("degrading"), N_("improving"), N_("stable"))
"""The source report's words for a change of the exponent, for the catalogues."""


def window_table(lines: Sequence[Line]) -> str:
    """One row per window of every line that has windows; empty when none has."""
    header = (
        _("line"),
        _("documents"),
        _("training tokens"),
        _("α"),
        _("95% interval of α"),
        _("A"),
        _("R²"),
    )
    rows = [row for line in lines for row in _window_rows(line)]
    return table(header, rows) if rows else ""


def trend_table(lines: Sequence[Line]) -> str:
    """Change of the exponent from the first to the last window, a row per line that has windows."""
    header = (
        _("line"),
        _("first α"),
        _("last α"),
        _("change"),
        _("95% interval"),
        _("excludes 0"),
        _("percent"),
        _("trend"),
    )
    return table(header, [_trend_row(line) for line in lines if line.progression is not None])


def _window_rows(line: Line) -> list[list[str]]:
    if line.progression is None:
        return []
    return [
        [
            plain(line.label),
            _sizes(window),
            numbers.count_range(window.token_range),
            numbers.exponent(window.alpha),
            numbers.exponent_interval(window.alpha_ci95),
            numbers.coefficient(window.A),
            numbers.r_squared(window.r_squared),
        ]
        for window in line.progression.windows
    ]


def _sizes(window: WindowRecord) -> str:
    shown = numbers.count_range(window.sample_range)
    return f"{shown}, {numbers.without(window.missing_sizes)}" if window.missing_sizes else shown


def _trend_row(line: Line) -> list[str]:
    found = line.progression
    interval = found.alpha_change_ci95
    return [
        plain(line.label),
        numbers.exponent(found.windows[0].alpha),
        numbers.exponent(found.windows[-1].alpha),
        numbers.signed_exponent(found.alpha_change),
        numbers.signed_exponent_interval(interval),
        numbers.ABSENT if interval is None else _yes_or_no(not interval[0] <= 0 <= interval[1]),
        numbers.signed_percent(found.alpha_change_percent),
        _(found.trend),
    ]


def _yes_or_no(value: bool) -> str:
    return _("yes") if value else _("no")


def window_change(line: Line) -> Change:
    """Change of the exponent of a line that has windows, from the first to the last."""
    found = line.progression
    kind = found.windows[0].interval_kind or "line"
    return Change(found.alpha_change, found.alpha_change_ci95, len(line.fitted), kind)


def curved(line: Line) -> bool:
    """Whether the exponent of its windows changes beyond its interval across draws."""
    return line.progression is not None and bool(window_change(line).distinguishable)
