"""The figure of a sweep: perplexity against training tokens, every line with its fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from cvfp.records.files import atomic_path
from cvfp.records.results import PointRecord
from cvfp.report.axes import log_ticks, padded
from cvfp.report.lines import Line
from cvfp.report.numbers import short_count

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours without yellow, which does not show on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 2, 1.5, 2, 1.5, 2)))
"""Line styles of fits; dotted is for predictions."""
REACH = 10
"""Fits are drawn on to this multiple of the largest fitted size."""
LONGEST_LABEL = 34
INK = "#222222"


@dataclass(frozen=True)
class Style:
    """How one line is drawn: every line of a figure has a combination of its own.

    `rank` orders the markers of equal points: the first line's lies on top and is the smallest.
    """

    color: str
    marker: str
    dashes: Any
    rank: int


def style_of(index: int) -> Style:
    """The style of the index-th line; combinations repeat only after 385 lines."""
    return Style(
        PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)], index
    )


def write_scaling_figure(path: Path, lines: Sequence[Line]) -> bool:
    """Draw the lines to a PNG. False, and no file is written, when no line has a point to show."""
    shown = [line for line in lines if line.scored]
    if not shown:
        return False
    with atomic_path(path) as temporary:
        figure = scaling_figure(shown)
        figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})
    return True


def scaling_figure(lines: Sequence[Line]) -> Figure:
    """Points, fits and 95% prediction bands in log-log axes; each line must have a scored point."""
    figure = Figure(figsize=(9.5, 5.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    handles = [_draw_line(axes, line, style_of(index)) for index, line in enumerate(lines)]
    _set_axes(axes, lines)
    order = sorted(range(len(lines)), key=lambda index: -_last_ppl(lines[index]))
    legend = figure.legend(
        [handles[index] for index in order],
        [short_label(lines[index].label) for index in order],
        loc="outside right upper",
        frameon=False,
        handlelength=3.2,
    )
    _show_literally(legend)
    return figure


def short_label(label: str) -> str:
    """A label that fits beside the axes: the middle of a long one is left out."""
    label = " ".join(label.split())
    if len(label) <= LONGEST_LABEL:
        return label
    half = LONGEST_LABEL // 2
    return f"{label[:half]}…{label[-half:]}"


def _draw_line(axes: Axes, line: Line, style: Style) -> Line2D:
    fitted = [point for point in line.scored if point in line.fitted]
    _draw_points(axes, line.excluded, style, "white")
    _draw_points(axes, fitted, style, style.color)
    if line.law is not None:
        _draw_fit(axes, line, style)
    # An empty line stands for points and fit together in the legend.
    face = style.color if fitted else "white"
    fit = style.dashes if line.law is not None else "none"
    (handle,) = axes.plot([], [], color=style.color, marker=style.marker, linestyle=fit, markerfacecolor=face)
    return handle


def _draw_points(axes: Axes, points: Sequence[PointRecord], style: Style, face: str) -> None:
    axes.plot(
        [point.train_tokens for point in points],
        [point.val_ppl for point in points],
        linestyle="none",
        marker=style.marker,
        color=style.color,
        markerfacecolor=face,
        markeredgecolor="white" if face == style.color else style.color,
        markeredgewidth=0.7 if face == style.color else 1.3,
        markersize=6.5 + 1.3 * min(style.rank, 3),
        zorder=4 - style.rank / 100,
    )


def _draw_fit(axes: Axes, line: Line, style: Style) -> None:
    tokens = np.array([point.train_tokens for point in line.fitted], dtype=np.float64)
    inside = np.geomspace(tokens.min(), tokens.max(), 50)
    beyond = np.geomspace(tokens.max(), REACH * tokens.max(), 50)
    axes.plot(inside, line.law.predict(inside), color=style.color, linestyle=style.dashes, linewidth=1.6)
    axes.plot(beyond, line.law.predict(beyond), color=style.color, linestyle=":", linewidth=1.6)
    everywhere = np.concatenate([inside, beyond])
    band = line.law.prediction_interval(everywhere)
    if band is not None:
        axes.fill_between(everywhere, *band, color=style.color, alpha=0.10, linewidth=0, zorder=1)


def _set_axes(axes: Axes, lines: Sequence[Line]) -> None:
    """Limits hold every point and every predicted line; a band wider than that is cut off."""
    tokens, ppl = _extent(lines)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(*padded(tokens, 0.04))
    axes.set_ylim(*padded(ppl, 0.06))
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        ticks = log_ticks(*limits)
        axis.set_ticks(ticks, [short_count(tick) for tick in ticks], color=INK)
        axis.set_ticks([], minor=True)
    axes.set_xlabel("training tokens", color=INK)
    axes.set_ylabel("validation perplexity", color=INK)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _extent(lines: Sequence[Line]) -> tuple[np.ndarray, np.ndarray]:
    tokens = [float(point.train_tokens) for line in lines for point in line.scored]
    ppl = [point.val_ppl for line in lines for point in line.scored]
    for line in lines:
        if line.law is not None:
            end = REACH * max(point.train_tokens for point in line.fitted)
            tokens.append(end)
            ppl.append(float(line.law.predict(end)))
    return np.array(tokens), np.array(ppl)


def _last_ppl(line: Line) -> float:
    """Perplexity where the drawn line ends: the legend is in the order of the ends."""
    if line.law is None:
        return max(line.scored, key=lambda point: point.train_tokens).val_ppl
    return float(line.law.predict(REACH * max(point.train_tokens for point in line.fitted)))


def _show_literally(legend: Legend) -> None:
    """Names come out of records: a dollar sign in them is no formula."""
    for text in legend.get_texts():
        text.set_parse_math(False)
