"""The figure of what contexts are: their effective rank, their dimensions, and what their parameters buy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.report.figures.canvas import house_style, new_figure, save
from cvfp.report.figures.panels import grid_shape
from cvfp.report.figures.params import changes_of_size, draw_efficiency, draw_perplexity, several_perplexities
from cvfp.report.figures.ranks import draw_dimensions, draw_ranks, ranked
from cvfp.report.figures.style import (
    Styles,
    by_arm,
    crowded,
    legend_below,
    line_entries,
    plain_handle,
    seeds_entry,
    styles_of,
)
from cvfp.report.headline import headline
from cvfp.report.lines import Line, several_seeds

PANEL = 3.1
"""Inches of height of a row of panels."""
FILLS = ("full", "left", "top")

Draw = Callable[[Axes], None]


def write_analysis(path: Path, lines: Sequence[Line]) -> bool:
    """Draw what the contexts of the lines are to a PNG. False, and no file, without lines with contexts."""
    return save(analysis_figure(lines), path)


@house_style
def analysis_figure(lines: Sequence[Line]) -> Figure | None:
    """Effective rank and dimensions, and val PPL against parameters and their ratio; panels with content."""
    shown = [line for line in lines if line.scored and line.summary.context_dim]
    styles = _styles(shown, lines)
    panels = _panels(shown, lines, styles)
    if not panels:
        return None
    rows, columns = grid_shape(len(panels))
    entries = _entries(shown, lines)
    figure = new_figure(rows * PANEL + 0.25 + 0.1 * len(entries))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes)
    legend_below(figure, entries)
    return figure


def _panels(shown: Sequence[Line], lines: Sequence[Line], styles: Styles) -> list[Draw]:
    """The panels that have something to show."""
    found: list[Draw] = []
    with_rank = [line for line in shown if ranked(line)]
    if with_rank:
        found.append(partial(draw_ranks, lines=with_rank, styles=styles))
    if len({line.summary.context_dim for line in with_rank}) > 1:
        found.append(partial(draw_dimensions, lines=with_rank, styles=styles))
    changes = changes_of_size(shown)
    if changes:
        found.append(partial(draw_efficiency, changes=changes, styles=styles))
    top = headline(lines)
    if several_perplexities(top):
        found.append(partial(draw_perplexity, top=top, styles=styles))
    return found


def _styles(shown: Sequence[Line], lines: Sequence[Line]) -> Styles:
    """Arms that share styles are told apart by the filling of their markers."""
    styles, fills = styles_of(lines), _fills(shown, lines)
    return {line.label: replace(styles[line.label], fill=fills[line.arm]) for line in shown}


def _fills(shown: Sequence[Line], lines: Sequence[Line]) -> dict[str, str]:
    arms = by_arm(shown)
    return {arm: FILLS[index % len(FILLS)] if crowded(lines) else "full" for index, arm in enumerate(arms)}


def _entries(shown: Sequence[Line], lines: Sequence[Line]) -> list:
    entries = line_entries(shown, lines)
    fills = _fills(shown, lines)
    if len(set(fills.values())) > 1:
        settings = {"marker": "o", "markerfacecoloralt": "white", "markersize": 7}
        entries += [(arm, plain_handle(fillstyle=fill, **settings)) for arm, fill in fills.items()]
    if any(several_seeds(line.scored) for line in shown):
        entries.append(seeds_entry())
    return entries
