"""Panels in a grid, titled, that may share their axes."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from cvfp.report.figures.fonts import drawable

COLUMNS = {1: 1, 2: 2, 4: 2}
"""Of a grid by the number of panels; others have three."""


def grid_shape(count: int) -> tuple[int, int]:
    """(rows, columns) of `count` panels."""
    columns = COLUMNS.get(count, 3)
    return math.ceil(count / columns), columns


def panel_grid(
    figure: Figure | SubFigure, titles: list[str], sharex: bool = True, sharey: bool = True
) -> list[Axes]:
    """One panel per title, row by row; where axes are shared only the outer ones are labelled."""
    rows, columns = grid_shape(len(titles))
    grid = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False)
    panels = list(grid.flat)
    for unused in panels[len(titles) :]:
        unused.remove()
    for axes, title in zip(panels, titles, strict=False):
        axes.set_title(drawable(title), loc="left", fontweight="bold")
    return panels[: len(titles)]


def label_outer(panels: list[Axes], xlabel: str, ylabel: str, sharex: bool = True) -> None:
    """The labels that all panels share, at the first of each row and the lowest of each column.

    A panel that does not share its x axis keeps the numbers of its own.
    """
    _rows, columns = grid_shape(len(panels))
    for index, axes in enumerate(panels):
        lowest = index + columns >= len(panels)
        axes.tick_params(labelbottom=lowest or not sharex)
        axes.set_xlabel(xlabel if lowest else "")
        axes.set_ylabel(ylabel if index % columns == 0 else "")
