"""From what is drawn of one line to a chart of all: panels, legend, layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go

from cvfp.report.figures.style import Style, arm_groups, named_groups, styles_of
from cvfp.report.interactive.look import legend_entry
from cvfp.report.interactive.panels import Axis, axes_of, panel_figure
from cvfp.report.lines import Line

Layer = Callable[[Line, Style], list[go.Scatter]]
"""Draws one thing of a line: its points, its law."""


def compose(
    shown: Sequence[Line],
    lines: Sequence[Line],
    axes: tuple[Axis, Axis],
    layers: Sequence[Layer],
    legend: Sequence[Line] | None = None,
) -> go.Figure:
    """A chart of lines that look as in the PNGs: many get a panel per arm.

    Args:
        shown: the lines of the chart.
        lines: those of the sweep.
        axes: horizontal and vertical, the same in all panels.
        layers: from the bottom up; within one the first line lies on top.
        legend: the shown lines in the order of the legend, where that is another.
    """
    panels, styles = arm_groups(shown, lines), styles_of(lines)
    groups = named_groups(shown if legend is None else legend, lines)
    group_of = {line.label: str(rank) for rank, (_name, members) in enumerate(groups) for line in members}
    figure = panel_figure(list(panels), *axes, entries=len(groups))
    for rank, (name, members) in enumerate(groups):
        figure.add_trace(legend_entry(name, members, rank, styles[members[0].label]))
    for index, members in enumerate(panels.values()):
        for layer in layers:
            for line in reversed(members):
                place = axes_of(index) | {"legendgroup": group_of[line.label]}
                figure.add_traces([trace.update(place) for trace in layer(line, styles[line.label])])
    return figure
