"""Making a figure and its file: the look that all figures share, and writing them whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cvfp.records.files import atomic_path
from cvfp.report.figures.fonts import families

DPI = 150
WIDTH = 10.0
"""Inches, of every figure: a page shows them side by side with one size of type."""
INK, GRID = "#222222", "#dddddd"

HOUSE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "hatch.linewidth": 1.0,
    # Names come out of records: a dollar sign in them is no formula.
    "text.parse_math": False,
}


@contextmanager
def _house_style() -> Iterator[None]:
    # It warns that a further font has no bold face.
    fonts = logging.getLogger("matplotlib.font_manager")
    before = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with matplotlib.style.context(["default", HOUSE | {"font.family": list(families())}]):
            yield
    finally:
        fonts.setLevel(before)


house_style = _house_style()
"""Around whatever draws: what the user's own matplotlibrc says does not change a figure."""


def new_figure(height: float) -> Figure:
    """An empty figure of the common width and this height in inches, that lays itself out."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.07, h_pad=0.06)
    FigureCanvasAgg(figure)
    return figure


@house_style
def save(figure: Figure | None, path: Path) -> bool:
    """Write the figure as a PNG, the same bytes for the same figure. False, and no file, without a figure.

    Raises:
        CvfpError: the file cannot be written.
    """
    if figure is None:
        return False
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return True
