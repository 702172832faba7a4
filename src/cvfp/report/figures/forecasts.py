"""What the law of the smaller sizes said of the largest one, beside what was measured there."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from cvfp.report.figures.marks import ROW, Column, Mark, draw_column, name_rows, places
from cvfp.report.figures.style import INK, _, house_style, new_figure, short_label, styles_of
from cvfp.report.lines import Line
from cvfp.scaling.forecast import Backtest

BASE = 0.95
"""Inches: a figure without rows."""


@house_style
def forecast_figure(lines: Sequence[Line]) -> Figure | None:
    """Predicted / measured PPL - 1 in percent at each line's largest size, which the prediction has not seen.

    A column for the forecast and one for the last local slope, with their 95% intervals: an interval that
    holds reaches 0. None where no line has a size to hide.
    """
    shown = [line for line in lines if _said(line, "outlook") or _said(line, "last_slope")]
    if not shown:
        return None
    columns = [
        Column(title, tuple(_mark(_said(line, form)) for line in shown))
        for title, form in ((_("the forecast"), "outlook"), (_("last local slope"), "last_slope"))
    ]
    columns = [column for column in columns if column.known]
    rows, styles = places([line.arm for line in shown]), styles_of(lines)
    figure = new_figure(BASE + ROW * (rows[-1] + 1))
    panels = list(figure.subplots(1, len(columns), sharey=True, squeeze=False).flat)
    for axes, column in zip(panels, columns, strict=True):
        draw_column(axes, column, rows, [styles[line.label] for line in shown])
        axes.axvline(0, color=INK, linewidth=1.0, zorder=1.5)
        axes.tick_params(axis="y", length=0)
    name_rows(panels[0], rows, [short_label(line.label) for line in shown])
    figure.supxlabel(_("predicted / measured PPL − 1, %, at the largest size of each"), fontsize=8)
    return figure


def _said(line: Line, form: str) -> Backtest | None:
    """What a form said of the line's largest size alone."""
    known = [one for found in line.holdouts[:1] for one in found.forms if one.form == form]
    return next((prediction for one in known for prediction in one.predictions), None)


def _mark(found: Backtest | None) -> Mark | None:
    if found is None:
        return None
    low, high = (_percent(end, found.measured) for end in (found.low, found.high))
    interval = None if low is None or high is None else (low, high)
    return Mark(_percent(found.predicted, found.measured) or 0.0, interval)


def _percent(value: float | None, measured: float) -> float | None:
    return None if value is None else 100 * (value / measured - 1)
