"""The figure of the local exponent: alpha of every sliding window over the tokens of its sizes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.results import WindowRecord
from cvfp.report.figures.axes import padded, set_linear, set_log, widened, with_intervals
from cvfp.report.figures.canvas import house_style, new_figure, save
from cvfp.report.figures.marks import draw_interval, draw_mean
from cvfp.report.figures.panels import grid_shape, label_outer, panel_grid
from cvfp.report.figures.style import Style, arm_groups, legend_below, line_entries, plain_handle, styles_of
from cvfp.report.lines import Line

ONE_PANEL, EACH_PANEL = 4.2, 2.9
"""Inches of height: of the only panel, of each row of several."""
DODGE = 0.35
"""Share of the distance between two windows that the marks of one window take together."""


def write_progression(path: Path, lines: Sequence[Line]) -> bool:
    """Draw the exponents of windows to a PNG. False, and no file, when no line has windows."""
    return save(progression_figure(lines), path)


@house_style
def progression_figure(lines: Sequence[Line]) -> Figure | None:
    """Exponents at the geometric middles of the windows, with their 95% intervals; bars span the windows.

    Lines are moved apart sideways, so that intervals do not hide each other; the bars are not.
    """
    shown = [line for line in lines if line.progression is not None]
    if not shown:
        return None
    groups, entries = arm_groups(shown, lines), line_entries(shown, lines)
    entries.append(("tokens of a window", plain_handle(linestyle="-", linewidth=1.0, alpha=0.5)))
    rows, _columns = grid_shape(len(groups))
    height = ONE_PANEL if len(groups) == 1 else rows * EACH_PANEL
    figure = new_figure(height + 0.3 + 0.09 * len(entries))
    panels = panel_grid(figure, list(groups))
    for axes, members in zip(panels, groups.values(), strict=True):
        _draw_panel(axes, members, lines)
        _set_axes(axes, shown, most=9 if len(groups) == 1 else 5)
    label_outer(panels, "training tokens of the window", "exponent α")
    legend_below(figure, entries)
    return figure


def middle(window: WindowRecord) -> float:
    """Geometric mean of the ends, in tokens."""
    return math.sqrt(window.token_range[0] * window.token_range[1])


def _draw_panel(axes: Axes, members: Sequence[Line], lines: Sequence[Line]) -> None:
    styles, step = styles_of(lines), _step(members)
    for index, line in enumerate(members):
        shift = step ** (index - (len(members) - 1) / 2)
        _draw_windows(axes, line.progression.windows, shift, styles[line.label])


def _draw_windows(axes: Axes, windows: Sequence[WindowRecord], shift: float, style: Style) -> None:
    for window in windows:
        axes.plot(window.token_range, [window.alpha] * 2, color=style.color, linewidth=1.0, alpha=0.35)
        draw_interval(axes, middle(window) * shift, window.alpha_ci95, style)
    draw_mean(axes, [(middle(window) * shift, window.alpha) for window in windows], style, joined=True)


def _step(members: Sequence[Line]) -> float:
    """Factor between the marks of two lines, so that those of one window stay apart from the next's."""
    ratios = [
        middle(after) / middle(before)
        for line in members
        for before, after in itertools.pairwise(line.progression.windows)
    ]
    return min(ratios) ** (DODGE / max(len(members) - 1, 3))


def _set_axes(axes: Axes, shown: Sequence[Line], most: int) -> None:
    windows = [window for line in shown for window in line.progression.windows]
    set_log(axes.xaxis, padded([end for window in windows for end in window.token_range], 0.04), most)
    alphas = [window.alpha for window in windows]
    values = with_intervals(alphas, [window.alpha_ci95 for window in windows])
    set_linear(axes.yaxis, widened(values, 0.08))
