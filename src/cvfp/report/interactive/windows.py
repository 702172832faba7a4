"""The chart of the local exponent: alpha of every sliding window, with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from cvfp.records.results import WindowRecord
from cvfp.report import numbers
from cvfp.report.figures.axes import widened, with_intervals
from cvfp.report.figures.progression import Windows, shifts_of, windows_of
from cvfp.report.figures.style import Style, arm_groups
from cvfp.report.interactive.compose import compose
from cvfp.report.interactive.hover import window_text
from cvfp.report.interactive.look import hover, marker, stroke
from cvfp.report.interactive.panels import Axis
from cvfp.report.language import _
from cvfp.report.lines import Line


def progression_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Exponents of the windows, which stand side by side, with 95% intervals; None without windows.

    The lines of a window are moved apart, so that intervals do not hide each other.
    """
    shown = [line for line in lines if line.progression is not None]
    if not shown:
        return None
    windows, panels = windows_of(shown), arm_groups(shown, lines).values()
    shifts = {label: shift for members in panels for label, shift in shifts_of(members).items()}
    layers = (lambda line, style: [_exponents(line, windows, shifts[line.label], style)],)
    return compose(shown, lines, _axes(shown, windows), layers)


def _axes(shown: Sequence[Line], windows: Windows) -> tuple[Axis, Axis]:
    found = [window for line in shown for window in line.progression.windows]
    alphas = with_intervals([window.alpha for window in found], [window.alpha_ci95 for window in found])
    names = tuple(numbers.count_range(sizes) for sizes in windows)
    return (
        Axis(_("documents"), (-0.5, len(windows) - 0.5), names=names),
        Axis(_("exponent α"), widened(alphas, 0.08)),
    )


def _exponents(line: Line, windows: Windows, shift: float, style: Style) -> go.Scatter:
    found = line.progression.windows
    above, below = zip(*map(_reach, found), strict=True)
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return go.Scatter(
        hover([window_text(line, window) for window in found], style),
        x=[windows[window.sample_range] + shift for window in found],
        y=[window.alpha for window in found],
        error_y=bars | {"color": style.color, "thickness": 1.5, "width": 4},
        mode="lines+markers",
        marker=marker(style),
        line=stroke(style),
    )


def _reach(window: WindowRecord) -> tuple[float | None, float | None]:
    """How far the interval goes above and below the exponent."""
    if window.alpha_ci95 is None:
        return None, None
    low, high = window.alpha_ci95
    return high - window.alpha, window.alpha - low
