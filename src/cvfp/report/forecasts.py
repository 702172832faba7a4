"""What the fitted laws say of sizes that were not run."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table


def forecast_table(lines: Sequence[Line]) -> str:
    """One row per line and predicted size; empty when no line has a law."""
    header = (
        _("line"),
        _("training tokens"),
        _("times the largest fitted"),
        _("predicted PPL"),
        _("95% prediction interval"),
    )
    rows = [row for line in lines for row in _rows(line)]
    return table(header, rows) if rows else ""


def _rows(line: Line) -> list[list[str]]:
    if not line.fitted:
        return []
    largest = max(point.train_tokens for point in line.fitted)
    return [
        [
            plain(line.label),
            numbers.count(one.tokens),
            f"{one.tokens / largest:.3g}",
            numbers.ppl(one.ppl),
            numbers.ppl_interval(one.low, one.high),
        ]
        for one in line.forecasts
    ]
