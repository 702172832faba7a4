"""The figure of the local exponent: alpha of every sliding window."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.report.figures.axes import (
    grid_shape,
    label_outer,
    panel_grid,
    set_linear,
    set_ticks,
    widened,
    with_intervals,
)
from cvfp.report.figures.marks import draw_interval, draw_mean
from cvfp.report.figures.style import (
    Style,
    _,
    arm_groups,
    grid_along,
    house_style,
    legend_below,
    line_entries,
    new_figure,
    styles_of,
)
from cvfp.report.lines import Line
from cvfp.report.numbers import short_count

ONE_PANEL, EACH_PANEL = 4.2, 2.9
"""Inches of height: of the only panel, of each row of several."""
DODGE = 0.35
"""Share of the distance between two windows that the marks of one window take together."""

SampleRange = tuple[int, int]
Windows = Mapping[SampleRange, int]
"""Places of windows on their axis, by the smallest and the largest size."""


@house_style
def progression_figure(lines: Sequence[Line]) -> Figure | None:
    """Exponents of the windows, which stand side by side, with their 95% intervals.

    The lines of a window are moved apart, so that intervals do not hide each other.
    """
    shown = [line for line in lines if line.progression is not None]
    if not shown:
        return None
    groups, entries = arm_groups(shown, lines), line_entries(shown, lines)
    rows, _columns = grid_shape(len(groups))
    height = ONE_PANEL if len(groups) == 1 else rows * EACH_PANEL
    figure = new_figure(height + 0.3 + 0.09 * len(entries))
    panels, windows, styles = panel_grid(figure, list(groups)), windows_of(shown), styles_of(lines)
    for axes, members in zip(panels, groups.values(), strict=True):
        shifts = shifts_of(members)
        for line in members:
            _draw_windows(axes, line, windows, shifts[line.label], styles[line.label])
        _set_axes(axes, shown, windows, most=9 if len(groups) == 1 else 4)
    label_outer(panels, _("documents of the window"), _("exponent α"))
    legend_below(figure, entries)
    return figure


def windows_of(lines: Sequence[Line]) -> Windows:
    """The windows of the lines, 1 apart."""
    ranges = {window.sample_range for line in lines for window in line.windows}
    return {sizes: place for place, sizes in enumerate(sorted(ranges))}


def shifts_of(members: Sequence[Line]) -> dict[str, float]:
    """How far the lines of one panel are moved sideways, by their labels."""
    step = DODGE / max(len(members) - 1, 3)
    return {line.label: step * (place - (len(members) - 1) / 2) for place, line in enumerate(members)}


def _draw_windows(axes: Axes, line: Line, windows: Windows, shift: float, style: Style) -> None:
    marks = [(windows[window.sample_range] + shift, window.alpha) for window in line.windows]
    for window, (x, _alpha) in zip(line.windows, marks, strict=True):
        draw_interval(axes, x, window.alpha_ci95, style)
    draw_mean(axes, marks, style, joined=True)


def _set_axes(axes: Axes, shown: Sequence[Line], windows: Windows, most: int) -> None:
    """At most `most` of the windows are named."""
    named = list(windows)[:: math.ceil(len(windows) / most)]
    names = [f"{short_count(low)}–{short_count(high)}" for low, high in named]
    axes.set_xlim(-0.5, len(windows) - 0.5)
    set_ticks(axes.xaxis, [windows[sizes] for sizes in named], names)
    found = [window for line in shown for window in line.windows]
    values = with_intervals([window.alpha for window in found], [window.alpha_ci95 for window in found])
    set_linear(axes.yaxis, widened(values, 0.08))
    grid_along(axes, "y")
