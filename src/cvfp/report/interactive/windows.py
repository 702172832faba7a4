"""The chart of the local exponent: alpha of every sliding window, with its interval."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from cvfp.records.results import WindowRecord
from cvfp.report.figures.axes import padded, widened, with_intervals
from cvfp.report.figures.progression import DODGE, middle
from cvfp.report.figures.style import Style, arm_groups
from cvfp.report.interactive.compose import compose
from cvfp.report.interactive.hover import window_text
from cvfp.report.interactive.look import hover, marker, stroke
from cvfp.report.interactive.panels import Axis
from cvfp.report.language import _
from cvfp.report.lines import Line

Shifts = Mapping[str, float]
"""Factors by which lines are moved sideways, by their labels."""


def progression_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Exponents at the geometric middles of the windows with 95% intervals; thin bars span the windows.

    Lines are moved apart sideways, so that intervals do not hide each other. None without windows.
    """
    shown = [line for line in lines if line.progression is not None]
    if not shown:
        return None
    panels = arm_groups(shown, lines).values()
    shifts = {label: shift for members in panels for label, shift in _shifts(members).items()}
    layers = (_spans, lambda line, style: _windows(line, shifts[line.label], style))
    return compose(shown, lines, _axes(shown), layers)


def _axes(shown: Sequence[Line]) -> tuple[Axis, Axis]:
    windows = [window for line in shown for window in line.progression.windows]
    tokens = padded([end for window in windows for end in window.token_range], 0.04)
    alphas = with_intervals([window.alpha for window in windows], [window.alpha_ci95 for window in windows])
    return (
        Axis(_("training tokens of the window"), tokens, log=True, tickformat="~s"),
        Axis(_("exponent α"), widened(alphas, 0.08)),
    )


def _shifts(members: Sequence[Line]) -> Shifts:
    """Those of the lines of one panel: the marks of one window stay apart from the next's."""
    ratios = [
        middle(after) / middle(before)
        for line in members
        for before, after in itertools.pairwise(line.progression.windows)
    ]
    step = min(ratios) ** (DODGE / max(len(members) - 1, 3))
    return {line.label: step ** (place - (len(members) - 1) / 2) for place, line in enumerate(members)}


def _windows(line: Line, shift: float, style: Style) -> list[go.Scatter]:
    windows = line.progression.windows
    above, below = zip(*map(_reach, windows), strict=True)
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below}
    return [
        go.Scatter(
            hover([window_text(line, window) for window in windows], style),
            x=[shift * middle(window) for window in windows],
            y=[window.alpha for window in windows],
            error_y=bars | {"color": style.color, "thickness": 1.5, "width": 4},
            mode="lines+markers",
            marker=marker(style),
            line=stroke(style),
        )
    ]


def _reach(window: WindowRecord) -> tuple[float | None, float | None]:
    """How far the interval goes above and below the exponent."""
    if window.alpha_ci95 is None:
        return None, None
    low, high = window.alpha_ci95
    return high - window.alpha, window.alpha - low


def _spans(line: Line, style: Style) -> list[go.Scatter]:
    """A thin bar over the tokens of every window."""
    windows = line.progression.windows
    return [
        go.Scatter(
            x=[place for window in windows for place in (*window.token_range, None)],
            y=[place for window in windows for place in (window.alpha, window.alpha, None)],
            mode="lines",
            line={"color": style.color, "width": 1},
            opacity=0.35,
            hoverinfo="skip",
            showlegend=False,
        )
    ]
