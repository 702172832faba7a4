"""The figure of phase 2, and of training through time: perplexity of dev and training text by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.sweep import Sweep
from cvfp.report.curves import Phase2Curve, largest_curve, phase2_curve
from cvfp.report.figures.axes import padded, set_linear, set_log
from cvfp.report.figures.canvas import house_style, new_figure, save
from cvfp.report.figures.panels import grid_shape, label_outer, panel_grid
from cvfp.report.figures.style import (
    Style,
    by_arm,
    legend_below,
    line_entries,
    plain_handle,
    runs,
    styles_of,
)
from cvfp.report.lines import Line

ONE_ROW, EACH_ROW = 3.6, 2.9
"""Inches of height, without the legend: of an only row of panels, of each of several."""
NOTES = (
    ("dev", {"linestyle": "-"}),
    ("train, mean of the last pass", {"linestyle": (0, (3, 1.5))}),
    ("best dev", {"marker": "o"}),
)

Curves = dict[str, Phase2Curve]
"""By the label of the line."""


def write_phase2(path: Path, sweep: Sweep, lines: Sequence[Line]) -> bool:
    """Draw the training to a PNG. False, and no file, when no run told of it.

    Raises:
        InputError: a metrics file is damaged.
    """
    return save(phase2_figure(sweep, lines), path)


@house_style
def phase2_figure(sweep: Sweep, lines: Sequence[Line]) -> Figure | None:
    """Dev (solid) and train PPL (dashed) by optimiser step, of every line at its largest size, first seed.

    One panel per arm, on one scale of PPL. The evaluation with the lowest dev PPL is marked on both.
    """
    found = {line.label: largest_curve(sweep, line, phase2_curve) for line in lines}
    curves = {label: curve for label, curve in found.items() if curve is not None and _drawable(curve)}
    shown = [line for line in lines if line.label in curves]
    if not shown:
        return None
    groups, entries = by_arm(shown), line_entries(shown, lines, dashes="-")
    entries += [(name, plain_handle(**look)) for name, look in NOTES]
    rows, columns = grid_shape(len(groups))
    figure = new_figure((ONE_ROW if rows == 1 else rows * EACH_ROW) + 0.3 + 0.08 * len(entries))
    panels = panel_grid(
        figure, [_title(arm, members, curves) for arm, members in groups.items()], sharex=False
    )
    for axes, members in zip(panels, groups.values(), strict=True):
        for line in members:
            _draw_curve(axes, curves[line.label], styles_of(lines)[line.label])
        _set_axes(axes, [curves[line.label] for line in members], list(curves.values()), columns)
    label_outer(panels, "optimiser steps", "perplexity", sharex=False)
    legend_below(figure, entries)
    return figure


def _drawable(curve: Phase2Curve) -> bool:
    return bool(np.isfinite(curve.dev_ppl).any() or np.isfinite(curve.train_ppl).any())


def _title(arm: str, members: Sequence[Line], curves: Curves) -> str:
    return f"{arm}\n{runs([curves[line.label].point for line in members])}"


def _draw_curve(axes: Axes, curve: Phase2Curve, style: Style) -> None:
    for values, dashes, face in (
        (curve.dev_ppl, "-", style.color),
        (curve.train_ppl, (0, (3, 1.5)), "white"),
    ):
        axes.plot(
            curve.steps,
            values,
            color=style.color,
            linestyle=dashes,
            linewidth=1.3,
            marker=style.marker,
            markevery=[] if curve.best is None else [curve.best],
            markersize=7,
            markerfacecolor=face,
            zorder=style.zorder,
        )


def _set_axes(axes: Axes, own: Sequence[Phase2Curve], every: Sequence[Phase2Curve], columns: int) -> None:
    ppls = np.concatenate([values for curve in every for values in (curve.dev_ppl, curve.train_ppl)])
    set_log(axes.yaxis, padded(ppls[np.isfinite(ppls)], 0.05))
    last = max(float(curve.steps.max()) for curve in own)
    set_linear(axes.xaxis, (-0.03 * last, 1.05 * last), most=7 if columns == 1 else 5)
